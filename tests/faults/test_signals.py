"""SIGINT and SIGTERM end a command with one line, its exit code and no half file; the rerun has the same bytes."""

import random
import shutil
import signal

import pytest

from common.files import TEMPORARY
from tests.faults.inject import POINTS, contents
from tests.faults.kills import finished, start

NAMES = ["hw2_1.sh", "numbered images", "hw2_2.sh", "hw2_3.sh", "archive", "release", "training of problem 1"]


@pytest.mark.parametrize("name", NAMES)
def test_signals(tally, tmp_path, commands, name):
    (module, *argv), count, chance = commands[name], tally(f"SIGINT, SIGTERM: {name}"), random.Random(name)
    whole, out = tmp_path / "fault_whole", tmp_path / "fault_stopped"
    finished(module, [str(one).replace("OUT", str(whole)) for one in argv], count=tmp_path / "count")
    operations = int((tmp_path / "count").read_text())
    arguments = [str(one).replace("OUT", str(out)) for one in argv]
    for _ in range(POINTS):
        shutil.rmtree(out, ignore_errors=True)
        number, place = chance.choice([signal.SIGINT, signal.SIGTERM]), chance.randint(1, operations)

        def stop_and_rerun(number=number, place=place):
            process = start(module, arguments, kill_at=place, signal_number=number, said=str(tmp_path / "said"))
            process.join()
            said = (tmp_path / "said").read_text()
            assert "Traceback" not in said, said
            assert process.exitcode == 128 + number and said.count("stopped: ") == 1, (process.exitcode, said)
            assert not [*out.rglob(f"{TEMPORARY}*")]
            finished(module, arguments)
            return contents(out)

        count.add(f"{number.name} at {place}", stop_and_rerun, lambda found: found == contents(whole))
