"""Little memory ends a script with one line, and many pictures take little."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from common.checkpoint import save_weights
from common.cli import UserError
from common.files import REPOSITORY
from p3_dann.network import DigitNetwork, NetworkConfig

MB = 10**6
LIMITS = (20, 50, 100, 200, 300, 400, 450, 500, 550, 600, 1000, 2000)  # MB of addresses


@pytest.fixture
def predicting(tmp_path):
    """Run hw2_3.sh on a folder, within some MB of addresses: the rows, and the most memory that it held, in bytes."""
    save_weights(tmp_path / "w.pt", DigitNetwork(NetworkConfig(widths=(8, 8))), NetworkConfig(widths=(8, 8)))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    path = os.pathsep.join([os.path.dirname(sys.executable), str(tmp_path / "bin"), os.environ["PATH"]])

    def run(folder, limit=None):
        csv = tmp_path / "pred.csv"
        csv.unlink(missing_ok=True)
        script = f"exec bash {REPOSITORY}/hw2_3.sh {folder} {csv} --weights {tmp_path}/w.pt"
        command = ["bash", "-c", f"ulimit -v {limit * 1000 if limit else 'unlimited'} && {script}"]
        with open(tmp_path / "said", "w+") as said:
            process = subprocess.Popen(command, env={**os.environ, "PATH": path}, stderr=said)
            _, status, used = os.wait4(process.pid, 0)
            said.seek(0)
            lines = said.read().splitlines()
        code = os.waitstatus_to_exitcode(status)
        if code == 2 and not csv.exists() and len(lines) == 1 and lines[0].startswith("error: "):
            raise UserError(lines[0])
        assert code == 0, (code, lines)
        return csv.read_text().splitlines(), used.ru_maxrss * 1024

    return run


def test_a_limited_memory(tally, digit_folder, predicting):
    count, folder = tally("hw2_3.sh within 20 to 2000 MB of addresses"), digit_folder() / "data"
    whole, _ = predicting(folder)
    for limit in LIMITS:
        count.add(f"{limit} MB", lambda limit=limit: predicting(folder, limit), lambda found: found[0] == whole)


def test_sixty_thousand_pictures_take_less_than_a_gigabyte(tally, tmp_path, predicting, capsys):
    count, folder = tally("hw2_3.sh with 60,000 pictures, within 1 GB"), tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        Image.effect_noise((28, 28), 50 + number).convert("RGB").save(folder / f"{number:05d}.png")
    for number in range(200, 60_000):
        os.link(folder / f"{number % 200:05d}.png", folder / f"{number:05d}.png")

    def predicted():
        rows, most = predicting(folder)
        with capsys.disabled():
            print(f"{len(rows) - 1} pictures: {most / MB:.0f} MB")
        return rows, most

    count.add("once", predicted, lambda found: len(found[0]) == 60_001 and found[1] < 1000 * MB)
