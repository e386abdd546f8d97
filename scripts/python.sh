# Sourced by other scripts, in the project's folder: finds the Python to use and reports missing modules.

if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
    python=$VIRTUAL_ENV/bin/python
elif [ -x .venv/bin/python ]; then
    python=.venv/bin/python
else
    python=$(command -v python3 || true)
fi
if [ -z "$python" ]; then
    echo "There is no Python: activate a virtual environment, or put python3 on PATH." >&2
    exit 1
fi

# need MODULE [REQUIREMENTS]: exits unless the module can be imported.
need() {
    if ! "$python" -c "import $1" 2>/dev/null; then
        echo "$python has no $1: $python -m pip install -r ${2:-requirements-prod.txt}" >&2
        exit 1
    fi
}
need django
