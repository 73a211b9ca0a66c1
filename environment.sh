# Sourced by demo.sh and test.sh. `use_environment graded|current` leaves the environment's interpreter in $PYTHON.
#
# An environment is made once per requirements and Python under ${XDG_CACHE_HOME:-~/.cache}/dlcv-hw2 and shared by all
# clones; HW2_VENV names one to use as it is. Only a finished one is marked `complete`: an interrupted making starts over.

find_python() {  # the first of the given interpreters that runs, is at least 3.10 and can make environments
    local candidate
    for candidate in "$@"; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python >= 3.10 with the venv module; on Ubuntu: apt-get install python3 python3-venv" >&2
    return 2
}

use_environment() {
    local root base venv key lists
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    if [ -n "${HW2_VENV:-}" ]; then
        PYTHON=$(cd "$HW2_VENV/bin" 2>/dev/null && pwd || true)/python
        "$PYTHON" -c 'import torch' || { echo "error: HW2_VENV=$HW2_VENV is no environment with the requirements" >&2; return 2; }
        return
    fi
    if [ "$1" = graded ]; then  # the graders' Python where there is one
        lists=("$root/requirements.txt" "$root/requirements-dev.txt")
        base=$(find_python python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python3.10 python3)
    else
        lists=("$root/requirements-current.txt" "$root/requirements-dev.txt")
        base=$(find_python python3)
    fi
    key=$({ "$base" -c 'import sys; print(sys.version, sys.base_prefix)'; cat "${lists[@]}"; } | sha256sum | cut -c1-16)
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/dlcv-hw2/$key
    PYTHON=$venv/bin/python
    mkdir -p "$venv"
    exec 9>"$venv.lock"
    if command -v flock >/dev/null; then flock 9; fi  # another clone may be making it
    if [ ! -e "$venv/complete" ] || ! "$PYTHON" -c '' 2>/dev/null; then
        echo "making the Python environment in $venv (once; some minutes, up to 5 GB)" >&2
        rm -rf "$venv"
        "$base" -m venv "$venv"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --progress-bar off "${lists[@]/#/-r}"
        touch "$venv/complete"
    fi
    exec 9>&-
}
