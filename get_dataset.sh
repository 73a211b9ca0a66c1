#!/usr/bin/env bash
# bash get_dataset.sh      download and unpack the course's data set to hw2_data/ beside this script
set -euo pipefail
here=$(readlink -f -- "${BASH_SOURCE[0]}")
here=${here%/*}
cd "$here/"  # elsewhere python3 -m might find files named like Python's own modules
exec 9<.
python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || true  # another run may be downloading
if [ -d hw2_data/digits ]; then
    echo "$here/hw2_data is there already" >&2
    exit 0
fi
rmdir hw2_data 2>/dev/null || true
if [ -e hw2_data ] || [ -L hw2_data ]; then
    echo "error: $here/hw2_data is in the way, without the folder digits; remove it and run this again" >&2
    exit 2
fi
partial=.hw2_data.partial
mkdir -p "$partial"
python3 -m gdown --continue 1YxkObGDlqZM0-9Zq-QMjk7q1vND4UJl3 --output "$partial/hw2_data.zip"
if ! python3 -c 'import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)' "$partial/hw2_data.zip" 2>/dev/null; then
    rm "$partial/hw2_data.zip"
    echo "error: what was downloaded is no intact zip and was removed; run this again" >&2
    exit 2
fi
python3 -m zipfile --extract "$partial/hw2_data.zip" "$partial"
mv "$partial/hw2_data" hw2_data
rm -r "$partial"
