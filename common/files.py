"""Files that are either complete or absent, what lies in a folder, and where real data lies."""

import errno
import functools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.cli import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
IN_PLACE = {errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}  # where a file can't be replaced
TEMPORARY = ".dlcv-hw2."  # what our temporary files' names begin with
STALE = 3600  # seconds without a change, after which a temporary file's writer is dead


@contextmanager
def atomic_write(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` (its folder is made where missing); move it to `path` if the block succeeds.

    On an error nothing is left behind and an earlier `path` is untouched. Links stay: what they point to is replaced.
    What can't be replaced is written to instead: a stream such as /dev/stdout, a device or pipe, a mounted file, and a
    file in a folder without write permission. With `flush` the content is on the disk before it gets its name, so that
    not even a power cut leaves half of it.
    """
    try:
        target = stream_of(path) or path.resolve()
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    with naming(path):
        if isinstance(target, int) or target.exists() and not target.is_file() and not target.is_dir():
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder) / "content"
                write_to(target, Path(folder) / "content")
            return
        temporary = temporary_for(target)
        try:
            yield temporary
            if flush:
                flush_to_disk(temporary)
            put(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of files that have no name, or one that means nothing to the user, name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not Path(os.fsdecode(error.filename)).name.startswith(TEMPORARY):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def temporary_for(target: Path) -> Path:
    """A new file beside the target; elsewhere, where only the target itself can be written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    except OSError:
        if not (target.is_file() and os.access(target, os.W_OK)):
            raise
        handle, name = tempfile.mkstemp(prefix=TEMPORARY)
    os.close(handle)
    return Path(name)


@functools.cache  # once in a process: folders may be large
def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(temporary: Path, target: Path) -> None:
    """Move a file to its place, as readable as any other; write it over one that can't be replaced."""
    umask = os.umask(0)
    os.umask(umask)
    with suppress(OSError):  # of file systems without permissions
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are private
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in IN_PLACE or not target.is_file():
            raise
        write_to(target, temporary)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where it is missing; of a link to nowhere what it points to."""
    Path(os.path.realpath(path)).mkdir(parents=True, exist_ok=True)


def visible_files(folder: Path, suffixes: Collection[str], *, kind: str) -> list[Path]:
    """The files in a folder with these suffixes, in any case, in order of name.

    What else lies there is named on stderr. Where there is none but one folder below has some, links followed, those
    are taken, which is said, too. `kind` is what to call them.

    Raises:
        UserError: no folder, or no such files in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    visible = [path for path in sorted(folder.iterdir()) if not hidden(path.name)]
    files = [path for path in visible if path.suffix.lower() in suffixes and path.is_file()]
    if others := sorted(path.name for path in {*visible} - {*files}):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        note = f"{', '.join(map(repr, others[:3]))}{more}"
        below = [] if files else [where for where in folders_below(folder) if has_files(where, suffixes)]
        if len(below) == 1:
            print(f"warning: {folder}: no {kind} in it; taking those of {below[0]}", file=sys.stderr)
            return visible_files(below[0], suffixes, kind=kind)
        if below:
            raise UserError(f"{folder}: {kind} only in {len(below)} folders below; give one, like {below[0]}")
        print(f"warning: {folder}: left out as no {kind}: {note}", file=sys.stderr)
    if not files:
        raise UserError(f"{folder}: no {kind} ({', '.join(sorted(suffixes))}) in it")
    return files


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or what a Mac adds to a zip."""
    return name.startswith(".") or name == "__MACOSX"


def has_files(folder: Path, suffixes: Collection[str]) -> bool:
    paths = (path for path in folder.iterdir() if not hidden(path.name))
    return any(path.suffix.lower() in suffixes and path.is_file() for path in paths)


def folders_below(folder: Path) -> Iterator[Path]:
    """The folders in a folder that aren't hidden, also through links, each once."""
    seen: set[str] = set()
    for where, names, _ in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        names[:] = [] if real in seen else sorted(name for name in names if not hidden(name))
        if real not in seen and Path(where) != folder:
            yield Path(where)
        seen.add(real)


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
