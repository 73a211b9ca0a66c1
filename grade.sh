#!/usr/bin/env bash
# bash grade.sh SUBMISSION [DATA]      grade any submission of the homework in an environment of the graded versions
set -euo pipefail
here=$(readlink -f -- "${BASH_SOURCE[0]}")
here=${here%/*}
. "$here/environment.sh"
use_environment graded
PATH=$(dirname "$PYTHON"):$PATH exec "$PYTHON" "$here/" homework.grade "$@"
