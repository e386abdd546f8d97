#!/usr/bin/env bash
# Gives an account its phone number, so that it can log in with a one-time password; for the first superuser above all.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/assign_phone.sh USERNAME PHONE

PHONE is a mobile number in any usual spelling, such as 9000000001 or +919000000001. A number that is not
valid or belongs to another account is refused, and the exit status is not 0. Logins of the account end.
It installs nothing: it runs in the active virtual environment, else .venv, else python3 on PATH.
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac
if [ $# -ne 2 ]; then
    usage >&2
    exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
exec "$python" manage.py assign_phone -- "$@"
