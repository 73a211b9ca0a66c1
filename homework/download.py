"""Verify the released checkpoints and download what is missing or damaged.

python3 -m homework.download      (hw2_download.sh)

checkpoints/manifest.json lists every file with its sha256, size and URL (https, file, or gdrive:ID); the environment
variable HW2_MIRROR names a base URL to try first. A file of the right sha256 is kept and needs no network; a partial
download is resumed; only verified files take their place.
"""

import argparse
import os
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from common.checkpoint import CHECKPOINTS
from common.cli import UserError, command, some_path
from common.manifest import BLOCK, is_listed, read_manifest, sha256
from common.processes import alone_in

ATTEMPTS = 3


def transfer(url: str, part: Path, size: int) -> None:
    """Append what is missing of `url` to `part`, or write it anew where the server can't resume. Raises OSError."""
    if url.startswith("gdrive:"):
        import gdown  # only here: everything else works without it

        gdown.download(id=url.removeprefix("gdrive:"), output=str(part), quiet=False, resume=True)
        return
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as response:
        resumed = getattr(response, "status", None) == 206
        bar = tqdm(total=size, initial=have * resumed, unit="B", unit_scale=True, desc=part.stem)
        with open(part, "ab" if resumed else "wb") as file, bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))


def fetch(path: Path, urls: Sequence[str], *, digest: str, size: int) -> None:
    """Download one file, each URL up to ATTEMPTS times, and move it into place once its sha256 is right.

    Raises:
        UserError: no URL gave the right bytes.
    """
    part = path.with_name(path.name + ".part")
    problem = "no URL is known"
    for url in urls:
        for _ in range(ATTEMPTS):
            if part.exists() and part.stat().st_size >= size:
                part.unlink()  # complete but not verified below: nothing to resume
            try:
                transfer(url, part, size)
            except Exception as error:  # of urllib, http.client and gdown, which share no base class
                problem = f"{url}: {error}"
                continue
            got = part.stat().st_size if part.exists() else 0
            if got == size and sha256(part) == digest:
                os.replace(part, path)
                return
            problem = f"{url}: {got} of {size} bytes" if got != size else f"{url}: the sha256 is not the manifest's"
    raise UserError(
        f"{path.name}: {problem}; try again, restore it with git checkout, or set HW2_MIRROR to a base URL that has it"
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=some_path, default=CHECKPOINTS, help="where manifest.json is (default: checkpoints/)"
    )
    folder = parser.parse_args(argv).folder
    mirror = os.environ.get("HW2_MIRROR")
    manifest = read_manifest(folder)
    with alone_in(folder, wait=True):
        for name, entry in manifest.items():
            path = folder / name
            if is_listed(path, entry):
                print(f"{name}: verified", file=sys.stderr)
                continue
            urls = ([f"{mirror.rstrip('/')}/{name}"] if mirror else []) + entry.get("urls", [])
            fetch(path, urls, digest=entry["sha256"], size=entry["size"])
            print(f"{name}: downloaded and verified", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
