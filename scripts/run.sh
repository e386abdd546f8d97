#!/usr/bin/env bash
# Serves the whole product in development mode on SQLite; on a fresh machine it installs everything first.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/run.sh [--help]

Makes .venv, installs what changed, migrates the database and serves at http://HOST:PORT, and runs the worker.
It needs Python 3.11 or newer and nothing else.

  HOST   address to listen on, 127.0.0.1 by default
  PORT   port to listen on, 8000 by default
TEXT
}

case "${1:-}" in
    "") ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: it takes no argument such as '$1'; see --help" >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/venv.sh
HOST=${HOST:-127.0.0.1} PORT=${PORT:-8000}

.venv/bin/python manage.py migrate --verbosity 0
cat <<TEXT

  Swagger   http://$HOST:$PORT/swagger/
  Admin     http://$HOST:$PORT/admin/      (first: .venv/bin/python manage.py createsuperuser)
  Log in    POST /auth/send-otp/ with a phone number returns the code, POST /auth/verify-otp/ with the tokens

TEXT
.venv/bin/python manage.py work --with-parent &
# Without the reloader, which would outlive a script that is killed.
exec .venv/bin/python manage.py runserver --noreload "$HOST:$PORT"
