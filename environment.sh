# Sourced by demo.sh and test.sh. `use_environment REQUIREMENTS...` leaves the environment's interpreter in $PYTHON.
#
# The environment is made once per (requirements, Python) under ${XDG_CACHE_HOME:-~/.cache}/dlcv-hw2 and shared by all clones;
# HW2_VENV names another place. Only a finished one carries the marker `complete`, so an interrupted making starts over.

find_python() {  # the graders' 3.10 where it runs, else python3 if it is at least that
    local candidate
    for candidate in python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python3.10 python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python >= 3.10 with the venv module; on Ubuntu: apt-get install python3 python3-venv" >&2
    return 2
}

use_environment() {
    local base key venv log
    base=$(find_python) || return
    key=$({ "$base" -c 'import sys; print(sys.version, sys.base_prefix)'; cat "$@"; } | sha256sum | cut -c1-16)
    venv=${HW2_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/dlcv-hw2/$key}
    PYTHON=$venv/bin/python
    if [ -n "${HW2_VENV:-}" ] && [ -x "$PYTHON" ] && [ ! -e "$venv/making" ]; then
        return  # the user's own environment is taken as it is
    fi
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    if command -v flock >/dev/null; then flock 9; fi
    if [ -e "$venv/complete" ] && "$PYTHON" -c '' 2>/dev/null; then
        exec 9>&-
        return
    fi
    if [ -e "$venv" ] && [ ! -e "$venv/making" ] && [ ! -e "$venv/complete" ]; then
        echo "error: $venv exists and is no environment of this project; set HW2_VENV to another folder" >&2
        return 2
    fi
    echo "making the Python environment in $venv (once; some minutes, up to 5 GB)" >&2
    rm -rf "$venv"
    mkdir -p "$venv"
    touch "$venv/making"
    "$base" -m venv "$venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --progress-bar off $(printf -- '-r %s ' "$@")
    rm "$venv/making"
    touch "$venv/complete"
    exec 9>&-
}
