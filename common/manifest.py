"""manifest.json, which lists the weight files beside it: their sha256, size and URLs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from common.cli import UserError
from common.files import atomic_write

NAME = "manifest.json"
BLOCK = 1 << 18  # bytes read at a time
Entries = dict[str, dict[str, Any]]  # "sha256", "size", "urls"; "replaces" is the sha256 of a file about to be replaced


def is_file_name(name: str) -> bool:
    """Whether a name is one in its folder, and leads to no other."""
    return Path(name).name == name and name not in ("", "..")


def read_manifest(folder: Path) -> Entries:
    """The entries by file name. Raises UserError where there is no manifest, or it can't be one."""
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file; git checkout restores the released one")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        for name, entry in entries.items():
            if not is_file_name(name):
                raise ValueError(f"{name!r} is no file name")
            kinds = {"sha256": str, "size": int, "urls": list, "replaces": str}
            if not {"sha256", "size"} <= entry.keys() or not all(isinstance(entry[k], kinds[k]) for k in entry):
                raise ValueError(f"the entry of {name}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a manifest ({error}); git checkout restores the released one") from None
    return entries


def write_manifest(folder: Path, entries: Entries) -> None:
    with atomic_write(folder / NAME, flush=True) as temporary:
        temporary.write_text(json.dumps({"files": entries}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def is_listed(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is there and has the bytes of its entry."""
    return path.is_file() and sha256(path) in (entry["sha256"], entry.get("replaces"))


def check_listed(path: Path) -> None:
    """Raise UserError where the manifest beside a file lists other bytes; one that isn't ours says nothing."""
    try:
        entry = read_manifest(path.parent).get(path.name)
    except UserError:
        return
    if entry and not is_listed(path, entry):
        raise UserError(
            f"{path}: not the file that {NAME} lists; bash hw2_download.sh or git checkout restores it, and "
            "python3 -m homework.release replaces it"
        )


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
