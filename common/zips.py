"""Zips, as torch.save, NumPy and archives write them: what is in them, and whether reading them is safe."""

import zipfile
from pathlib import Path

from common.cli import UserError

MOST_COMPRESSED = 100  # times; real numbers and pictures reach ten


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip's directory lists, nothing where the file isn't a zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # of other files, and damaged directories
        return []


def check_unpacked_size(path: Path) -> None:
    """Raise UserError where a zip would fill the memory with what it holds, a hundred times its own size."""
    unpacked = sum(member.file_size for member in zip_members(path))
    if unpacked > MOST_COMPRESSED * path.stat().st_size:
        raise UserError(f"{path}: a zip that unpacks to {unpacked} bytes, too many for its size; make it anew")


def check_sums(path: Path) -> None:
    """Raise BadZipFile where a checksum of a zip is wrong. Other files pass.

    torch.load doesn't look at them, nor does np.load where a damaged header makes an array shorter.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        known = any(member.CRC for member in archive.infolist())  # torch can be told to leave them out
        if known and archive.testzip():
            raise zipfile.BadZipFile("a checksum is wrong")
