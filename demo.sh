#!/usr/bin/env bash
# bash demo.sh      make the environment once, run the graded scripts with the released checkpoints, judge them, print a table
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/environment.sh"
use_environment graded
PATH=$(dirname "$PYTHON"):$PATH PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec "$PYTHON" "$here/homework/demo.py" "$@"
