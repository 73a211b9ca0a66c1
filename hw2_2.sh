#!/usr/bin/env bash
# bash hw2_2.sh NOISE_DIR OUT_DIR UNET_PT      DDIM faces from given noises
set -eu
here=$(readlink -f -- "${BASH_SOURCE:-$0}")
exec python3 "${here%/*}/" p2_ddim.sample "$@"
