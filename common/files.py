"""Files that are either complete or absent, and where real data lies."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` (made where missing); move it to `path` if the block succeeds.

    On an error nothing is left behind and an earlier `path` is untouched. A device or pipe is written to as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # whose file name means nothing to the user
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private, ours are as open as any other
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def real_data(part: str) -> Path | None:
    """A file or folder of the real data under $HW2_REAL_DATA, or None where there is none."""
    root = os.environ.get("HW2_REAL_DATA")
    path = Path(root) / part if root else None
    return path if path and path.exists() else None
