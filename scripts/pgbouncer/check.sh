#!/usr/bin/env bash
# Tests the product through PgBouncer in transaction mode, with the settings of pgbouncer.ini.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/pgbouncer/check.sh [PYTEST ARGUMENTS]

Logs in, pays, holds, exports and races through PgBouncer to PostgreSQL (from its wheel), with fewer connections to
PostgreSQL than to PgBouncer. It uses PGBOUNCER, or the pgbouncer on PATH if it is 1.22 or newer, or else builds one
from Debian's sources under .pgbouncer, which needs a C compiler, make, curl, pkg-config, libevent-dev and libssl-dev.
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/venv.sh

VERSION=1.24.1
SOURCE=http://deb.debian.org/debian/pool/main/p/pgbouncer/pgbouncer_$VERSION.orig.tar.gz
SHA256=da72a3aba13072876d055a3e58dd4aba4a5de4ed6148e73033185245598fd3e0

is_new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n '1s/^PgBouncer //p') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' 1.22 "$version" | sort -V | head -n 1)" = 1.22 ]
}

can_build() {
    command -v cc make curl pkg-config >/dev/null && pkg-config --exists libevent openssl && return
    echo "There is no PgBouncer 1.22 or newer, and the tools to build one are missing. On Debian and Ubuntu:" >&2
    echo "apt-get install build-essential curl pkg-config libevent-dev libssl-dev" >&2
    return 1
}

build() {
    can_build
    echo "Building PgBouncer $VERSION ..."
    mkdir -p .pgbouncer
    curl --fail --silent --show-error --location --output .pgbouncer/source.tar.gz "$SOURCE"
    echo "$SHA256  .pgbouncer/source.tar.gz" | sha256sum --check --quiet
    tar -xzf .pgbouncer/source.tar.gz -C .pgbouncer
    (cd ".pgbouncer/pgbouncer-$VERSION" && ./configure --quiet --without-cares && make --silent) >.pgbouncer/log 2>&1 || {
        tail -n 20 .pgbouncer/log >&2
        exit 1
    }
}

pgbouncer=${PGBOUNCER:-$(command -v pgbouncer || true)}
if [ -z "$pgbouncer" ] || ! is_new_enough "$pgbouncer"; then
    pgbouncer=.pgbouncer/pgbouncer-$VERSION/pgbouncer
    [ -x "$pgbouncer" ] || build
fi
"$pgbouncer" --version | head -n 1
PGBOUNCER=$(realpath "$pgbouncer") TEST_DATABASE=postgresql .venv/bin/python -m pytest -n 0 \
    lokanetra/tests/test_pooler.py lokanetra/tests/test_story.py users/tests/test_live_login.py \
    wallet/tests/test_live_races.py transactions/tests/test_exports.py transactions/tests/test_live_events.py "$@"
