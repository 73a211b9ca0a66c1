"""Files that are either complete or absent, and where real data lies."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
IN_PLACE = {errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}  # where a file can't be replaced
TEMPORARY = ".dlcv-hw2."  # what our temporary files' names begin with


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (its folder is made where missing); move it to `path` if the block succeeds.

    On an error nothing is left behind and an earlier `path` is untouched. Links stay: what they point to is replaced.
    What can't be replaced is written to instead: a stream such as /dev/stdout, a device or pipe, a mounted file, and a
    file in a folder without write permission.
    """
    try:
        target = stream_of(path) or path.resolve()
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    if isinstance(target, int) or target.exists() and not target.is_file() and not target.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "content"
            write_to(target, Path(folder) / "content")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    except OSError as error:  # whose file name means nothing to the user
        if not (target.is_file() and os.access(target, os.W_OK)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        handle, name = tempfile.mkstemp(prefix=TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private, ours are as open as any other
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno not in IN_PLACE or not target.is_file():
                raise
            write_to(target, temporary)
    finally:
        temporary.unlink(missing_ok=True)


def stream_of(path: Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout or /proc/self/fd/3 names, through links."""
    names = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
    for _ in range(40):  # as many links as Linux follows
        text = os.path.abspath(path)
        if text in names:
            return names[text]
        if found := re.fullmatch(r"(?:/dev/fd|/proc/(?:self|thread-self|%d)/fd)/(\d+)" % os.getpid(), text):
            return int(found[1])
        if not os.path.islink(text):
            return None
        path = Path(text).parent / os.readlink(text)
    return None


def write_to(target: int | Path, content: Path) -> None:
    """Copy a file into an open file of this process, or over one that stays the same file."""
    with open(content, "rb") as source, open(os.dup(target) if isinstance(target, int) else target, "wb") as file:
        shutil.copyfileobj(source, file)


def real_data(part: str) -> Path | None:
    """A file or folder of the real data under $HW2_REAL_DATA, or None where there is none."""
    root = os.environ.get("HW2_REAL_DATA")
    path = Path(root) / part if root else None
    return path if path and path.exists() else None
