"""What every command shares: errors as one line with exit code 2, signals, and the choice of device and precision."""
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import torch


class Main(Protocol):
    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


class UserError(Exception):
    """Something that the user can mend: says what, where and what to do. Ends a command with exit code 2."""


class Stopped(Exception):
    """SIGINT or SIGTERM ended the work in good order; the message says what is kept. Ends a command with exit code 128 + signal."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Yield a list to which the first SIGINT or SIGTERM is appended instead of its usual effect; a second one has that again."""
    noted: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        noted.append(number)
        restore()

    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()


def command(main: Main) -> Main:
    """Turn what the user can mend in a `main(argv=None)` into one line on stderr and exit code 2; Ctrl-C into one and 130."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except Stopped as stopped:
            print(f"stopped: {stopped}", file=sys.stderr)
            return 128 + stopped.signal_number
        except KeyboardInterrupt:
            print("stopped: interrupted before the end", file=sys.stderr)
            return 128 + signal.SIGINT
        except UserError as error:
            message = str(error)
        except OSError as error:  # disk full, read-only folder, permissions
            where = error.filename2 or error.filename
            message = f"{where}: {error.strerror}" if where else str(error)
        except ModuleNotFoundError as error:
            message = f"no package {error.name}; install requirements.txt, and requirements-dev.txt for what graders don't run"
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            message = "out of memory; give a smaller batch or chunk size, or where it is a GPU's --device cpu"
        print(f"error: {message}", file=sys.stderr)
        return 2

    return wrapped


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception is Python's, the CPU allocator's, CUDA's or one of its libraries' way to say so."""
    words = ("out of memory", "can't allocate memory", "unable to find a valid cudnn algorithm", "unable to find an engine", "alloc_failed")
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def choose_device(name: str) -> torch.device:
    """'auto' is CUDA where there is one, under torchrun this process's, else the CPU; anything else is torch's name of a device.

    cuDNN is kept to deterministic algorithms.
    """
    torch.backends.cudnn.deterministic = True
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}; use auto, cpu, cuda or cuda:N") from None


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run networks in `usable_precision`."""
    return torch.autocast(device.type, torch.bfloat16) if usable_precision(device, precision) == "bf16" else nullcontext()


def usable_precision(device: torch.device, asked: str) -> str:
    """"bf16" where that is asked for and the device computes in it, else "float32"."""
    return "bf16" if asked == "bf16" and has_bf16(device) else "float32"


@functools.cache
def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself; elsewhere it is an error or an emulation slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpuinfo.read_text()) is not None
