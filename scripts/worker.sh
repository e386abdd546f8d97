#!/usr/bin/env bash
# Runs the background jobs of the production server. Migrate before that: python manage.py migrate
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/worker.sh [--once]

Delivers events to webhooks, closes expired holds and requests for money, sums the days that are over, removes stale
rows, and checks the books every night.
Several may run at once. SIGTERM and SIGINT end it within 20 seconds; a second one at once.
It installs nothing: it runs in the active virtual environment, else .venv, else python3 on PATH.

  --once    does what is due now and exits, with status 1 if something failed; for cron

scripts/docs/operations.md has the table of all settings.
TEXT
}

case "${1:-}" in
    "" | --once) ;;
    -h | --help) usage; exit 0 ;;
    *) echo "worker.sh: it takes no argument such as '$1'; see --help" >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
exec "$python" manage.py work "$@"
