#!/usr/bin/env bash
# bash hw2_1.sh OUT_DIR      1000 digits, D_NNN.png
set -eu
here=$(readlink -f -- "${BASH_SOURCE:-$0}")
exec python3 "${here%/*}/" p1_cond_ddpm.sample "$@"
