#!/usr/bin/env bash
# bash tests/rehearsal.sh      what graders do: clone what is committed, check the rules, run the scripts with their limits
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
. "$here/environment.sh"
use_environment graded
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
git clone --quiet "$here" "$fresh/a clone"
cd "$fresh/a clone"
export HW2_REAL_DATA=${HW2_REAL_DATA:-$(cd "$here/.." && pwd)/shared}
PATH=$(dirname "$PYTHON"):$PATH PYTHONPATH=$PWD "$PYTHON" tests/rehearsal.py
