"""Put trained weights among the released ones and note them in the manifest.

python3 -m homework.release runs/p1/weights.pt p1_mnistm.pt
"""

import argparse
import shutil
from collections.abc import Sequence

from common.checkpoint import CHECKPOINTS, load_weights
from common.cli import UserError, command, some_path, wrote
from common.files import atomic_write
from common.manifest import NAME as MANIFEST
from common.manifest import is_file_name, read_manifest, sha256, write_manifest
from common.processes import alone_in

LARGEST = 20_000_000  # bytes of one released file


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=some_path, help="of a finished training")
    parser.add_argument("name", help="file name in checkpoints/")
    parser.add_argument("--folder", type=some_path, default=CHECKPOINTS, help="(default: checkpoints/)")
    arguments = parser.parse_args(argv)
    load_weights(arguments.weights)  # nothing damaged is released
    size = arguments.weights.stat().st_size
    if size > LARGEST:
        raise UserError(f"{arguments.weights}: {size} bytes; a released file has at most {LARGEST}")
    if not (is_file_name(arguments.name) and arguments.name.endswith(".pt")):
        raise UserError(f"{arguments.name}: give a file name that ends with .pt, without a folder")
    path = arguments.folder / arguments.name
    with alone_in(arguments.folder, wait=True):
        entries = read_manifest(arguments.folder) if (arguments.folder / MANIFEST).exists() else {}
        with atomic_write(path, flush=True) as temporary:
            shutil.copyfile(arguments.weights, temporary)
            urls = entries.get(arguments.name, {}).get("urls", [])
            entry = {"sha256": sha256(temporary), "size": size, "urls": urls}
            if path.is_file():  # until the move is done, both files are the manifest's
                replacing = {**entry, "replaces": sha256(path)}
                write_manifest(arguments.folder, {**entries, arguments.name: replacing})
        write_manifest(arguments.folder, {**entries, arguments.name: entry})
    wrote(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
