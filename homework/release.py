"""Put trained weights among the released ones and note them in the manifest.

python3 -m homework.release runs/p1/weights.pt p1_mnistm.pt
"""

import argparse
import json
import shutil
from collections.abc import Sequence

from common.checkpoint import CHECKPOINTS, load_weights, sha256
from common.cli import UserError, command, some_path, wrote
from common.files import atomic_write

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
    path, manifest = arguments.folder / arguments.name, arguments.folder / "manifest.json"
    with atomic_write(path) as temporary:
        shutil.copyfile(arguments.weights, temporary)
    content = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {"files": {}}
    urls = content["files"].get(arguments.name, {}).get("urls", [])
    content["files"][arguments.name] = {"sha256": sha256(path), "size": size, "urls": urls}
    with atomic_write(manifest) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    wrote(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
