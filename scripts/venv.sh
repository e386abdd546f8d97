# Sourced by run.sh and test.sh, in the project's folder: makes .venv and installs what changed since the last time.

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done

if [ ! -x .venv/bin/python ]; then
    if [ -z "$python" ]; then
        echo "Python 3.11 or newer is needed, as python3 on PATH." >&2
        exit 1
    fi
    echo "Creating .venv with $("$python" --version) ..."
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "The virtual environment could not be created. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

wanted=(requirements*.txt scripts/constraints.txt)
if ! cat "${wanted[@]}" | cmp --silent - .venv/installed.txt; then
    echo "Installing requirements.txt ..."
    .venv/bin/python -m pip install -qq --disable-pip-version-check --requirement requirements.txt
    cat "${wanted[@]}" >.venv/installed.txt
fi
