#!/usr/bin/env bash
# bash hw2_1.sh OUT_DIR      1000 digits, D_NNN.png
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
exec python3 "$here" p1_cond_ddpm.sample "$@"
