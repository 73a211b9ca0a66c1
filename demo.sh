#!/usr/bin/env bash
# bash demo.sh      make the environment once, run the graded scripts with the released checkpoints, judge them, print a table
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
. "$here/environment.sh"
use_environment graded
PATH=$(dirname "$PYTHON"):$PATH exec "$PYTHON" "$here" homework.demo "$@"
