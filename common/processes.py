"""Several processes that do one job, as torchrun starts them: which one this is, its share, and what all then know;
and several jobs in one folder.
"""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

from common.cli import UserError
from common.files import make_folder

NUMBERS, MEETING = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("MASTER_ADDR", "MASTER_PORT")  # torchrun's environment
TIMEOUT = timedelta(minutes=5)  # after which a process no longer waits for another
PAUSE = 0.2  # seconds in which torch's threads come to an end

Key = TypeVar("Key")
Item = TypeVar("Item")


class Place(NamedTuple):
    """One process among those of its job; the defaults are those of a process alone."""

    rank: int = 0  # the first writes what there is only one of
    world: int = 1  # how many there are
    local_rank: int = 0  # the number on its machine, and of its GPU


def place() -> Place:
    """This process's place. Raises UserError where the environment holds only half of what torchrun sets."""
    if not any(name in os.environ for name in NUMBERS):
        return Place()
    given = [name for name in (*NUMBERS, *MEETING) if name in os.environ]
    missing = [name for name in (*NUMBERS, *MEETING) if name not in os.environ]
    if missing:
        there, lacking = " and ".join(given), " and ".join(missing)
        raise UserError(f"the environment has {there} but not {lacking}; start with torchrun, or unset {there}")
    values = {name: os.environ[name] for name in NUMBERS}
    numbers = [int(value) if value.isdecimal() else -1 for value in values.values()]
    if min(numbers) < 0 or numbers[0] >= numbers[1]:
        words = " ".join(f"{name}={value}" for name, value in values.items())
        raise UserError(f"the environment has {words}, no place among processes; start with torchrun, or unset them")
    return Place(*numbers)


def is_main_process() -> bool:
    """Whether this process is the only one, or the first, which writes what there is only one of."""
    return place().rank == 0


@contextmanager
def alone_in(folder: Path, *, wait: bool) -> Iterator[None]:
    """Make a folder and keep our other jobs from writing there, until the block or the process ends.

    Where another job is there already, wait for it, or raise UserError. Of several processes of a job the first does
    this. Where the file system has no locks, nothing is kept away.
    """
    if not is_main_process():
        yield
        return
    make_folder(folder)
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        wrong = "must be readable, too, to keep other jobs from it"
        raise UserError(f"{folder}: {wrong}; chmod u+rx it, or give another folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise UserError(f"{folder}: another process writes there; let it end, or give another folder") from None
            print(f"{folder}: another process writes there; waiting for its end", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # no locks here
            pass
        yield
    finally:
        os.close(handle)


def meet(backend: str = "gloo") -> None:
    """Connect to the other processes where there are some and this hasn't happened yet."""
    if place().world > 1 and not dist.is_initialized():
        dist.init_process_group(backend, timeout=TIMEOUT)


def disconnect() -> None:
    """Leave the other processes, at the end of a job that succeeded here.

    Torch's threads need the interpreter to let go of the last tensors that they exchanged. Where they come to it too
    late, the process aborts at its exit, or hangs here. So all meet once more, without tensors, and then pause.
    """
    if dist.is_initialized():
        with suppress(RuntimeError):  # another process failed, and says so itself
            dist.barrier()
        time.sleep(PAUSE)
        dist.destroy_process_group()


def share(items: Sequence[Item], batch_size: int = 1) -> list[Item]:
    """This process's items: of batches as one process alone would make them, whole ones in turn.

    The same batches give the same bytes, however many processes there are.
    """
    rank, world, _ = place()
    starts = range(rank * batch_size, len(items), world * batch_size)
    return [item for start in starts for item in items[start : start + batch_size]]


def gather(part: dict[Key, Item]) -> dict[Key, Item]:
    """What all processes have, in each of them."""
    parts = [part] * place().world
    if len(parts) > 1:
        meet()
        dist.all_gather_object(parts, part)
    return {key: item for one in parts for key, item in one.items()}


def from_first(make: Callable[[], Item]) -> Item:
    """What `make` returns in the first process, which alone calls it. What the user can mend there is raised in all."""
    answer: list[Any] = [None, None]  # what it returned, and what is wrong
    if is_main_process():
        try:
            answer[0] = make()
        except (UserError, OSError) as error:
            answer[1] = str(error)
    if place().world > 1:
        meet()
        dist.broadcast_object_list(answer)
    made, wrong = answer
    if wrong:
        raise UserError(wrong)
    return made
