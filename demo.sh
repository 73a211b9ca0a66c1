#!/usr/bin/env bash
# bash demo.sh      make the environment once, run the graded scripts with the released checkpoints, judge them, print a table
set -euo pipefail
here=$(readlink -f -- "${BASH_SOURCE[0]}")
here=${here%/*}
. "$here/environment.sh"
use_environment graded
PATH=$(dirname "$PYTHON"):$PATH exec "$PYTHON" "$here/" homework.demo "$@"
