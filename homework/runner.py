"""Run a command in a process group of its own, with a time limit; measure its seconds and memory.

This is no sandbox: the command may do all that its user may, and a child that starts a session of its own escapes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

GRACE = 3.0  # seconds from SIGTERM to SIGKILL
POLL = 0.05  # seconds


class Run(NamedTuple):
    """What became of a command."""

    status: int | None  # its exit code, negative for a signal; None where the limit ended it
    seconds: float
    peak: int  # bytes of the largest of its processes


def reap(process: subprocess.Popen, patience: float) -> int | None:
    """Wait at most so many seconds for a process to end: the peak memory of its largest child or itself, in bytes."""
    deadline = time.monotonic() + patience
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss * 1024
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL)


def run(words: Sequence[object], folder: Path, *, limit: float, log: Path | None = None) -> Run:
    """Run a command in a folder for at most `limit` seconds, its output in a log file or else on our stderr.

    What is left of its process group is stopped at the end, also where we are interrupted.
    """
    print("$", *words, file=sys.stderr, flush=True)
    start, peak = time.monotonic(), None
    with ExitStack() as files:
        output = files.enter_context(open(log, "wb")) if log else sys.stderr
        process = subprocess.Popen(
            [*map(str, words)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        peak = reap(process, limit)
        status, seconds = process.returncode, time.monotonic() - start
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if process.returncode is None:
                peak = reap(process, GRACE)
    return Run(status, seconds, peak or 0)
