#!/usr/bin/env bash
# Runs the production server. Migrate before that: python manage.py migrate
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/serve.sh [--help]

Collects static files, refuses unsafe settings, and serves with granian; a worker that dies is replaced.
SIGTERM drains it and ends it within DRAIN_SECONDS and 12 more; SIGINT, or a second signal, skips the draining.
It installs nothing: it runs in the active virtual environment, else .venv, else python3 on PATH.

  HOST            address to listen on, 127.0.0.1 by default
  PORT            port to listen on, 8000 by default
  WORKERS         processes, by default one per core
  DRAIN_SECONDS   how long it continues after SIGTERM, while /readyz fails, 3 by default; 0 to stop listening at once

scripts/docs/operations.md has the table of all settings.
TEXT
}

case "${1:-}" in
    "") ;;
    -h | --help) usage; exit 0 ;;
    *) echo "serve.sh: it takes no argument such as '$1'; see --help" >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
need granian

HOST=${HOST:-127.0.0.1} PORT=${PORT:-8000} WORKERS=${WORKERS:-$(getconf _NPROCESSORS_ONLN)} DRAIN_SECONDS=${DRAIN_SECONDS:-3}

# The first process of a container ignores signals without a handler.
trap 'exit 0' TERM INT
"$python" manage.py prepare
# One heap for each thread would hold much unused memory.
export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-2}
exec "$python" -m lokanetra.supervisor --host "$HOST" --port "$PORT" --workers "$WORKERS" --drain "$DRAIN_SECONDS"
