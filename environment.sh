# Sourced by demo.sh and test.sh. `use_environment graded|current` leaves the environment's interpreter in $PYTHON.
#
# An environment is made once per requirements and Python under ${XDG_CACHE_HOME:-~/.cache}/dlcv-hw2 and shared by all
# clones; HW2_VENV names one to use as it is. Only a finished one is marked `complete`: an interrupted making starts over.
# Callers may or may not have set -e, so every step is checked. With -I, Python doesn't take files in the user's folder
# for its own modules of the same name.

find_python() {  # the first of the given interpreters that runs, is at least 3.10 and can make environments
    local candidate
    for candidate in "$@"; do
        if "$candidate" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python >= 3.10 with the venv module; on Ubuntu: apt-get install python3 python3-venv" >&2
    return 2
}

environment_key() {  # PYTHON FILE...: 16 hexadecimal digits of the interpreter and the files' contents
    local python=$1 key
    shift
    if command -v sha256sum >/dev/null; then
        key=$({ "$python" -c 'import sys; print(sys.version, sys.base_prefix)' && cat "$@"; } | sha256sum)
    else
        key=$("$python" -c 'import hashlib, sys
content = f"{sys.version} {sys.base_prefix}\n".encode() + b"".join(open(name, "rb").read() for name in sys.argv[1:])
print(hashlib.sha256(content).hexdigest())' "$@")
    fi
    key=${key:0:16}
    if [[ ! $key =~ ^[0-9a-f]{16}$ ]]; then
        echo "error: $python can't tell its version" >&2
        return 2
    fi
    echo "$key"
}

make_environment() {  # PYTHON VENV REQUIREMENTS...
    local base=$1 venv=$2
    shift 2
    echo "making the Python environment in $venv (once; some minutes, up to 5 GB)" >&2
    if rm -rf -- "$venv" && "$base" -I -m venv "$venv" &&
        install_there "$venv/bin/python" "${@/#/-r}" && has_all "$venv/bin/python" "$@" && touch "$venv/complete"; then
        return
    fi
    echo "error: the environment in $venv could not be made, see above; is there a network, and room on the disk?" \
        "Do pip's settings (pip config list) put packages elsewhere?" >&2
    return 2
}

install_there() (  # PYTHON PIP_ARGUMENTS...: of the user's settings only those that say where packages come from
    unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_NO_DEPS PIP_REQUIRE_VIRTUALENV
    export PIP_USER=0
    "$1" -I -m pip install --quiet --disable-pip-version-check --progress-bar off "${@:2}"
)

has_all() {  # PYTHON REQUIREMENTS...: whether all that the files name is installed there
    "$1" -I -c 'import importlib.metadata, sys
from pip._vendor.packaging.requirements import Requirement
lines = (line.split("#")[0].strip() for name in sys.argv[1:] for line in open(name))
for requirement in (Requirement(line) for line in lines if line and not line.startswith("-")):
    try:
        if requirement.marker is None or requirement.marker.evaluate():
            importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{requirement.name} is not there")' "${@:2}"
}

use_environment() {
    local root=${BASH_SOURCE[0]} base venv key cache lists status=0
    [ ! -L "$root" ] || root=$(readlink -f -- "$root") || return 2
    root=$(CDPATH='' cd -- "$(dirname -- "$root")" && pwd) || return 2
    if [ -n "${HW2_VENV:-}" ]; then
        PYTHON=$(CDPATH='' cd -- "$HW2_VENV/bin" 2>/dev/null && pwd || true)/python
        (cd "$root/" && "$PYTHON" -c 'import torch') || { echo "error: HW2_VENV=$HW2_VENV is no environment with the requirements" >&2; return 2; }
        return
    fi
    unset PYTHONHOME PYTHONPATH  # which would give $PYTHON the packages of another
    cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
    if [ -z "$cache" ]; then
        echo "error: set HOME or XDG_CACHE_HOME, below which the environment is made, or HW2_VENV to your own" >&2
        return 2
    fi
    [[ $cache = /* ]] || cache=$PWD/$cache
    if [ "$1" = graded ]; then  # the graders' Python where there is one
        lists=("$root/requirements.txt" "$root/requirements-dev.txt" "$root/requirements-report.txt")
        base=$(find_python python3.10 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.10.*/bin/python3.10 python3) || return 2
    else
        lists=("$root/requirements-current.txt" "$root/requirements-dev.txt" "$root/requirements-report.txt")
        base=$(find_python python3) || return 2
    fi
    key=$(environment_key "$base" "${lists[@]}") || return 2
    venv=$cache/dlcv-hw2/$key
    PYTHON=$venv/bin/python
    is_complete "$venv" && return
    mkdir -p -- "$cache/dlcv-hw2" && {
        "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || true  # another clone may be making it
        is_complete "$venv" || make_environment "$base" "$venv" "${lists[@]}" || status=2
    } 9>"$venv.lock" || { echo "error: $cache/dlcv-hw2 can't be written to; set XDG_CACHE_HOME or HW2_VENV" >&2; return 2; }
    return "$status"
}

is_complete() {  # VENV
    [ -e "$1/complete" ] && "$1/bin/python" -c '' 2>/dev/null
}
