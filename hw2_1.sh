#!/usr/bin/env bash
# bash hw2_1.sh OUT_DIR      1000 digits, D_NNN.png
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec python3 "$here/p1_cond_ddpm/sample.py" "$@"
