#!/usr/bin/env bash
# bash hw2_download.sh      verify the released checkpoints, download what is missing
set -eu
here=$(readlink -f -- "${BASH_SOURCE:-$0}")
exec python3 "${here%/*}/" homework.download "$@"
