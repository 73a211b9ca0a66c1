#!/usr/bin/env bash
# bash hw2_3.sh IMAGE_DIR PRED_CSV      digits of a folder of images
set -eu
here=$(readlink -f -- "${BASH_SOURCE:-$0}")
exec python3 "${here%/*}/" p3_dann.predict "$@"
