"""Faults, and what they did: bits that flip, disks that fill, processes that are killed."""

import json
import os
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from common.checkpoint import load_tensors
from common.cli import UserError

POINTS = int(os.environ.get("HW2_FAULT_POINTS", "5"))  # where a command is killed
STATES = ("state", "before_cooldown")
FLIPS = 7 * POINTS  # of one kind of file


class Tally:
    """How often a fault was injected, and what came of it."""

    def __init__(self, fault: str):
        self.fault, self.tried, self.same, self.refused = fault, 0, 0, 0
        self.lost: list[str] = []  # what was injected, and what then happened

    def add(self, what: str, act: Callable[[], Any], is_right: Callable[[Any], bool]) -> None:
        """Count what `act` does under a fault: return a right result, raise UserError, or anything else."""
        try:
            result = act()
        except UserError as error:
            self.refused += 1
            if "\n" in str(error):
                self.lost.append(f"{what}: more than a line: {error}")
        except Exception as error:
            self.lost.append(f"{what}: {type(error).__name__}: {error}")
        else:
            if is_right(result):
                self.same += 1
            else:
                self.lost.append(f"{what}: silently another result")
        self.tried += 1  # last: what the user interrupts is not counted

    def include(self, other: "Tally") -> None:
        self.tried += other.tried
        self.same += other.same
        self.refused += other.refused
        self.lost += other.lost

    def row(self) -> str:
        return f"| {self.fault} | {self.tried} | {self.same} | {self.refused} | {len(self.lost)} |"


def run(main: Callable[..., int], *argv: object) -> str:
    """What a command says on stderr. Raises UserError with its last line where it ends with exit code 2."""
    stream = StringIO()
    with redirect_stderr(stream), redirect_stdout(StringIO()):
        code = main([*map(str, argv)])
    said = stream.getvalue()
    if code == 2 and said.count("error: ") == 1:
        raise UserError(said.strip().splitlines()[-1])
    assert code == 0, f"exit code {code}: {said}"
    return said


def flips(path: Path, *, count: int = FLIPS, seed: int = 0) -> Iterator[str]:
    """Flip one random bit of a file after the other, each in the whole file, which comes back at the end."""
    whole, chance = path.read_bytes(), random.Random(seed)
    try:
        for _ in range(count):
            bit = chance.randrange(8 * len(whole))
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            yield f"{path.name}, bit {bit % 8} of byte {bit // 8}"
    finally:
        path.write_bytes(whole)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes, as on a disk that is full; the kernel itself refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, Any]:
    """Files by name; of trainings what doesn't depend on the time that they took."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "metrics.jsonl":
            rows = map(json.loads, path.read_text().splitlines())
            found[name] = [{key: row[key] for key in row if key != "seconds"} for row in rows]
        elif path.suffix == ".pt":
            found[name] = load_tensors(path)["step"] if path.stem in STATES else path.read_bytes()
        elif path.name.startswith("events.out"):  # TensorBoard's, one for every start
            continue
        else:
            found[name] = None if path.name in ("curves.png", "machines.jsonl") else path.read_bytes()
    return found
