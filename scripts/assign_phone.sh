#!/usr/bin/env bash
# Assigns phone numbers to accounts, such as the first superuser, so that they can log in with one-time passwords.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/assign_phone.sh USERNAME PHONE
       scripts/assign_phone.sh --file FILE.csv
       scripts/assign_phone.sh                    (on a terminal: asks for each account that has no phone)

PHONE is a mobile number in any usual spelling, such as 9000000001 or +919000000001. A number that is not
valid or belongs to another account is refused, and the exit status is not 0. All logins of a changed account end.

  --file FILE   CSV in UTF-8 with the header username,phone_number. All rows are assigned or none; every bad
                row is named with its line. Two accounts may swap their numbers.
  --dry-run     prints what would change, and changes nothing

It installs nothing: it runs in the active virtual environment, else .venv, else python3 on PATH.
TEXT
}

for argument in "$@"; do
    case "$argument" in
        -h | --help) usage; exit 0 ;;
        --) break ;;
    esac
done

# A relative file is relative to the caller's folder, not to the project's.
arguments=() previous=
for argument in "$@"; do
    if [ "$previous" = --file ] && [ "${argument#/}" = "$argument" ]; then
        argument=$PWD/$argument
    fi
    case "$argument" in
        --file=[!/]*) argument=--file=$PWD/${argument#--file=} ;;
    esac
    arguments+=("$argument")
    previous=$argument
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/python.sh
exec "$python" manage.py assign_phone "${arguments[@]}"
