#!/usr/bin/env bash
# bash hw2_download.sh      verify the released checkpoints, download what is missing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec python3 "$here/homework/download.py" "$@"
