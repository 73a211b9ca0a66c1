"""Two of everything at once in one folder: both end as if one had followed the other, or one is refused."""

import json
import shutil

import pytest

from common.files import TEMPORARY
from tests.faults.inject import POINTS, contents
from tests.faults.kills import finished, start

# What the second does otherwise, and the exit codes that are right.
OTHERWISE = {
    "hw2_1.sh": (["--seed", 1], {(0, 0)}),
    "numbered images": (["--seed", 1], {(0, 2), (2, 0)}),
    "hw2_2.sh": (["--eta", 1, "--seed", 1], {(0, 0)}),
    "hw2_3.sh": (["--domain", "svhn"], {(0, 0)}),
    "archive": ([], {(0, 0)}),
    "training of problem 1": (["--seed", 1], {(0, 2), (2, 0)}),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_two_at_once(tally, tmp_path, commands, name):
    (module, *argv), (more, codes) = commands[name], OTHERWISE[name]
    count, out = tally(f"two at once: {name}"), tmp_path / "both"
    first = [str(one).replace("OUT", str(out)) for one in argv]
    possible = []
    for arguments in (first, [*first, *more]):
        finished(module, arguments)
        possible.append(contents(out))
        shutil.rmtree(out)
    for point in range(POINTS):

        def both():
            shutil.rmtree(out, ignore_errors=True)
            processes = [start(module, first), start(module, [*first, *more])]
            for process in processes:
                process.join()
            return tuple(process.exitcode for process in processes)

        right = lambda found: found in codes and contents(out) in possible and not [*out.rglob(f"{TEMPORARY}*")]
        count.add(f"point {point}", both, right)


def test_two_releases_are_both_listed(tally, tmp_path, commands):
    count = tally("two at once: release")
    for point in range(POINTS):
        folder = tmp_path / str(point)

        def both(folder=folder):
            weights = [tmp_path / "p1.pt", tmp_path / "p3.pt"]
            processes = [start("homework.release", [path, path.name, "--folder", folder]) for path in weights]
            for process in processes:
                process.join()
            return [process.exitcode for process in processes]

        def right(codes, folder=folder):
            listed = json.loads((folder / "manifest.json").read_text())["files"]
            return codes == [0, 0] and {*listed} == {"p1.pt", "p3.pt"}

        count.add(f"point {point}", both, right)
