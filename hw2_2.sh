#!/usr/bin/env bash
# bash hw2_2.sh NOISE_DIR OUT_DIR UNET_PT      DDIM faces from given noises
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# glibc gives memory of large tensors back and asks for it again at every layer, an eighth of the time on a CPU: let it keep it.
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-100000000000}
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec python3 "$here/p2_ddim/sample.py" "$@"
