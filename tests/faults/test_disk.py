"""A full or read-only disk costs no earlier file and leaves no half one; one line says so and names a file."""

import errno
import importlib
import os
import random
import tempfile
from contextlib import contextmanager

import pytest

from common import curves
from common.cli import UserError
from common.files import TEMPORARY
from p2_ddim import noise
from tests.faults.inject import POINTS, contents, full_disk, run

NAMES = ["hw2_1.sh", "numbered images", "hw2_2.sh", "hw2_3.sh", "archive", "release", "training of problem 1"]
NAMES += ["noises", "curves"]


@contextmanager
def read_only(monkeypatch):
    """No file can be made: the kernel's answer, without a file system that gives it (root may write anywhere)."""

    def refuse(**arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments.get("dir"))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse)
        yield


@pytest.fixture
def writers(commands, tmp_path, monkeypatch):
    """By name: a main and its arguments, in which OUT stands for where it writes."""
    monkeypatch.setattr("homework.archive.COUNT", 20)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    mains = {name: (importlib.import_module(module).main, argv) for name, (module, *argv) in commands.items()}
    mains["noises"] = noise.main, ["OUT/noises", "--count", 2]
    mains["curves"] = curves.main, [tmp_path, "--out", "OUT/curves.png"]
    return mains


@pytest.mark.parametrize("name", NAMES)
def test_a_full_or_read_only_disk(tally, tmp_path, writers, monkeypatch, name):
    main, argv = writers[name]
    count, chance = tally(f"full or read-only disk: {name}"), random.Random(name)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(main, *(str(one).replace("OUT", str(whole)) for one in argv))
    largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())

    def faulty():
        room = chance.randrange(largest)
        return ("read-only", read_only(monkeypatch)) if chance.random() < 0.2 else (f"room {room}", full_disk(room))

    (out / "earlier").mkdir(parents=True)
    for point in range(POINTS):
        what, fault = faulty()

        def act(fault=fault):
            try:
                with fault:
                    return run(main, *(str(one).replace("OUT", str(out)) for one in argv))
            except UserError as error:
                if str(out) not in str(error):
                    raise AssertionError(f"names no file: {error}") from None
                raise

        count.add(f"{what}, point {point}", act, lambda _: contents(out) == contents(whole))
        assert not [*out.rglob(f"{TEMPORARY}*")]
        left = contents(out)
        assert "training" in name or left.items() <= contents(whole).items()
