"""Commands that are killed: in the middle of their time, and between any two of their operations on files."""

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common.files import TEMPORARY

COMMANDS = ("p1_cond_ddpm.train", "p1_cond_ddpm.sample", "p2_ddim.train", "p2_ddim.sample", "p3_dann.train")
COMMANDS += ("p3_dann.predict", "homework.archive", "homework.release", "homework.download")

# Each process is forked from one that has loaded everything and computed nothing, so it starts in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "torch._dynamo", "matplotlib.backends.backend_agg", "common.curves", *COMMANDS])


def start(
    module: str,
    argv: Sequence[object],
    *,
    kill_at: int = 0,
    signal_number: int = signal.SIGKILL,
    count: Path | None = None,
    said: str = os.devnull,
) -> BaseProcess:
    """Start a command in a process of its own, with its stderr into the file `said`; return when its work begins. It
    sends itself a signal before its kill_at-th operation on files below its folder, or writes into `count` how many
    there are.
    """
    begun = FORKS.Event()
    process = FORKS.Process(
        target=_command, args=(module, [*map(str, argv)], kill_at, signal_number, count, said, begun)
    )
    process.start()
    assert begun.wait(60)
    return process


def _command(
    module: str, argv: list[str], kill_at: int, signal_number: int, count: Path | None, said: str, begun: Event
) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background ignore
    torch.set_num_threads(1)
    main = importlib.import_module(module).main
    shorten_work()
    operations = 0

    def note(event: str, arguments: tuple) -> None:
        nonlocal operations
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod") and "fault_" in str(arguments[0]):
            operations += 1
            if operations == kill_at:
                os.kill(os.getpid(), signal_number)

    sys.addaudithook(note)
    begun.set()
    code = main(argv)
    if count:
        count.write_text(str(operations))
    raise SystemExit(code)


def shorten_work() -> None:
    """Fewer pictures in an archive, curves without content, one preview of a face: the same files, sooner."""
    importlib.import_module("homework.archive").COUNT = 20  # type: ignore[attr-defined]
    importlib.import_module("common.curves").draw_curves = lambda runs: Figure()  # type: ignore[attr-defined]
    faces = importlib.import_module("p2_ddim.train")
    faces.PREVIEW_SIDE, faces.PREVIEW_STEPS = 32, 1  # type: ignore[attr-defined]


def finished(module: str, argv: list[object], count: Path | None = None) -> float:
    """Run a command to its end, which must be a good one; the seconds that its work took."""
    process = start(module, argv, count=count)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0, f"{module} ends with {process.exitcode}"
    return time.monotonic() - began


def killed(module: str, argv: list[object], *, kill_at: int = 0, after: float = 0.0) -> bool:
    """Run a command and kill it; whether that came before its end."""
    process = start(module, argv, kill_at=kill_at)
    process.join(None if kill_at else after)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def make_old(folder: Path) -> None:
    """As if the temporary files in a folder had been there for two hours."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        os.utime(path, (time.time() - 7200,) * 2)
