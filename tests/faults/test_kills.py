"""A killed command leaves whole files, and its rerun ends with the same bytes and sweeps up."""

import json
import random
import shutil

import pytest

from common.checkpoint import load_tensors, load_weights
from common.files import TEMPORARY
from common.images import sums_hold
from common.run_folder import read_settings
from tests.faults.inject import POINTS, contents
from tests.faults.kills import finished, killed, make_old

NAMES = ["hw2_1.sh", "numbered images", "hw2_2.sh", "hw2_3.sh", "archive", "release"]
NAMES += [f"training of problem {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_kills(tally, tmp_path, commands, name):
    (module, *argv), count, chance = commands[name], tally(f"kill -9: {name}"), random.Random(name)

    def arguments(out):
        return [str(one).replace("OUT", str(out)) for one in argv]

    def prepare(out):
        shutil.rmtree(out, ignore_errors=True)
        if name == "release":  # of a name that another file has had
            finished(module, [tmp_path / "p3.pt", *arguments(out)[1:]])

    whole = tmp_path / "fault_whole"
    prepare(whole)
    seconds = finished(module, arguments(whole), count=tmp_path / "count")
    operations, expected = int((tmp_path / "count").read_text()), contents(whole)
    out = tmp_path / "fault_killed"
    for point in range(POINTS):
        prepare(out)
        fraction = chance.random()
        where = {"after": fraction * seconds} if point % 2 else {"kill_at": 1 + int(fraction * operations)}

        def kill_and_rerun(where=where):
            while not killed(module, arguments(out), **where):  # the machine was faster than when it was measured
                prepare(out)
                where = {"after": where["after"] / 2}
            check_whole(out, expected)
            make_old(out)
            finished(module, arguments(out))
            return contents(out)

        count.add(str(where), kill_and_rerun, lambda found: found == expected)


def check_whole(folder, expected):
    """Every file that a killed command has left is whole: one of the finished command's, or an earlier state."""
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY)):
        name = str(path.relative_to(folder))
        if path.suffix == ".png":
            assert sums_hold(path.read_bytes()), name
        elif path.suffix == ".pt":
            load_weights(path) if path.parent.name == "checkpoints" else load_tensors(path)
        elif path.name == "options.json":
            read_settings(path)
        elif path.suffix == ".jsonl":
            assert all(json.loads(line) for line in path.read_text().splitlines())
        elif path.name == "manifest.json":
            finished("homework.download", ["--folder", folder / "checkpoints"])
        elif not path.name.startswith("events.out"):
            assert path.read_bytes() == expected[name], name
