"""What every command shares: errors as one line with exit code 2, and what signals do."""

import argparse
import functools
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

PATIENCE = 3.0  # seconds after a first signal in which others say no more


class Main(Protocol):
    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


class UserError(Exception):
    """Something that the user can mend: says what, where and what to do. Ends a command with exit code 2."""


class Stopped(Exception):
    """SIGINT or SIGTERM ended the work in good order; the message says what is kept, or is empty.

    Ends a command with exit code 128 + signal.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came. No `except Exception` takes it for an error of what it interrupts."""

    def __init__(self, signal_number: int):
        super().__init__()
        self.signal_number = signal_number


@contextmanager
def signals_raised() -> Iterator[None]:
    """SIGINT and SIGTERM are raised as Interrupted, but not what comes within PATIENCE, while things are cleared up."""
    usual = {}
    first = -PATIENCE
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        not_ours = (signal.SIG_DFL, signal.default_int_handler)
        usual = {number: handler for number, handler in handlers.items() if handler in not_ours}

    def interrupt(number: int, frame: object) -> None:
        nonlocal first
        if time.monotonic() - first > PATIENCE:
            first = time.monotonic()
            raise Interrupted(number)

    for number in usual:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Yield a list to which SIGINT and SIGTERM are appended instead of their usual effect.

    One that comes more than PATIENCE seconds after the first has its usual effect. Sooner, it is an echo: torchrun
    forwards a Ctrl-C that its workers have already got.
    """
    noted: list[int] = []
    handlers = {}
    first = 0.0
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        nonlocal first
        if noted and time.monotonic() - first > PATIENCE:
            restore()
            os.kill(os.getpid(), number)
            return
        first = first or time.monotonic()
        noted.append(number)

    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()


class QuietStream(io.TextIOBase):
    """A text stream whose reader may be gone: what can't be written is dropped, since the result matters more."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text) if self.stream else len(text)
        except (OSError, ValueError):  # ValueError: closed
            self.stream = None
            return len(text)

    def flush(self) -> None:
        try:
            if self.stream:
                self.stream.flush()
        except (OSError, ValueError):
            self.stream = None

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        if self.stream is None:
            raise OSError("no stream")
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"


def some_path(text: str) -> Path:
    """The type of a path on a command line: an empty one, often an unset variable, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option --device, for `common.device.choose_device`."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")


def wrote(path: Path, what: str = "") -> None:
    """Say on stderr what a command has written, and where."""
    print(f"wrote {what + ' to ' if what else ''}{path}", file=sys.stderr)


def ended(code: int) -> int:
    """An exit code. Where other processes are still connected, exit at once: later, torch's threads may abort."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def command(main: Main) -> Main:
    """Turn what the user can mend in a `main(argv=None)` into one line on stderr and exit code 2; SIGINT into one and
    130, SIGTERM into one and 143.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        if not isinstance(sys.stderr, QuietStream):
            sys.stderr = QuietStream(sys.stderr)
        try:
            with signals_raised():
                return main(argv)
        except Stopped as stopped:
            if str(stopped):
                print(f"stopped: {stopped}", file=sys.stderr)
            return ended(128 + stopped.signal_number)
        except KeyboardInterrupt as interrupted:
            print("stopped: interrupted before the end", file=sys.stderr)
            return 128 + getattr(interrupted, "signal_number", signal.SIGINT)
        except UserError as error:
            message = str(error)
        except OSError as error:  # disk full, read-only folder, permissions
            where = error.filename2 or error.filename
            message = f"{where}: {error.strerror}" if where else str(error)
        except ModuleNotFoundError as error:
            lists = "requirements.txt, then requirements-dev.txt and requirements-report.txt"
            message = f"no package {error.name}; install {lists}"
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                message = "out of memory; give a smaller batch or chunk size, or where it is a GPU's --device cpu"
            elif lost_process(error):
                message = "another process of this job has ended or hangs; see what it said, and start all again"
            else:
                raise
        print(f"error: {message}", file=sys.stderr)
        return ended(2)

    return wrapped


def out_of_memory(error: BaseException) -> bool:
    """True if the error means out of memory: Python's, the CPU allocator's, CUDA's or one of its libraries'."""
    words = (
        "out of memory",
        "can't allocate memory",
        "unable to find a valid cudnn algorithm",
        "unable to find an engine",
        "alloc_failed",
    )
    return (
        isinstance(error, MemoryError)
        or isinstance(error, RuntimeError)
        and any(word in str(error).lower() for word in words)
    )


def lost_process(error: RuntimeError | MemoryError) -> bool:
    """True if the error means that another process of the job has gone or did not answer in time: gloo's or NCCL's."""
    words = (
        "gloo/transport",
        "connection reset by peer",
        "connection closed by peer",
        "application timeout",
        "remote process exited",
        "communicator was aborted",
        "collective operation timeout",
    )
    return any(word in str(error).lower() for word in words)
