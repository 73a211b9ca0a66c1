"""Counts what injected faults did. HW2_FAULT_POINTS says how many of each kind are injected, HW2_FAULTS_TABLE names a
Markdown file whose table gets the counts.
"""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from common.checkpoint import save_weights
from p1_cond_ddpm.unet import UNet
from p2_ddim.noise import write_noises
from p2_ddim.unet import FaceUNet
from p3_dann.network import DigitNetwork, NetworkConfig
from tests.faults.inject import Tally
from tests.helpers import SMALL, THIN, TINY_DENOISER, randomised

TRAINING = "--steps 6 --save-every 2 --log-every 1 --batch-size 4 --ema-decay 0.9".split()
ROWS = re.compile(r"^\|.*$", re.MULTILINE)
TALLIES = pytest.StashKey[dict[str, Tally]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLIES] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def tally(request: pytest.FixtureRequest):
    """Make the count of one fault by its name; the test fails where something was lost."""
    tallies: list[Tally] = []

    def make(fault: str) -> Tally:
        tallies.append(Tally(fault))
        return tallies[-1]

    yield make
    for one in tallies:
        whole = request.config.stash[TALLIES].setdefault(one.fault, Tally(one.fault))
        whole.include(one)
        if table := os.environ.get("HW2_FAULTS_TABLE"):  # after each test, so that a stop loses little
            write_row(Path(table), whole)
        assert one.tried and not one.lost, "\n".join([one.row(), *one.lost])


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for one in config.stash[TALLIES].values():
        terminalreporter.write_line(one.row())


def write_row(path: Path, one: Tally) -> None:
    """Put a count into a file's table: in place of the earlier one of the same fault, or at its end."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(one.fault)} \|.*$", text, re.MULTILINE)
    start, end = found.span() if found else [(line.end(), line.end()) for line in ROWS.finditer(text)][-1]
    path.write_text(text[:start] + ("" if found else "\n") + one.row() + text[end:], encoding="utf-8")


@pytest.fixture
def commands(tmp_path, digit_folder):
    """By name: a module and its arguments, in which OUT stands for where it writes."""
    for name in ("mnistm", "svhn", "usps"):
        digits = digit_folder(name)
    data = digits.parent
    for name, network, config in (("p1", UNet, SMALL), ("p2", FaceUNet, THIN), ("p3", DigitNetwork, NetworkConfig())):
        save_weights(tmp_path / f"{name}.pt", randomised(network(config)), config, labelled=True)
    write_noises(tmp_path / "noises", 4, 32)
    (tmp_path / "images").mkdir()
    for number in range(1, 21):
        Image.new("RGB", (28, 28), (number, 0, 0)).save(tmp_path / "images" / f"{number:05d}.png")
    p1 = ["p1_cond_ddpm.sample", "OUT/images", "--weights", tmp_path / "p1.pt", "--num-steps", 2]
    faces = "--size 32 --widths 32 64 --attention-levels 1 --time-channels 32".split()
    run = ["--run-dir", "OUT/run", *TRAINING]
    return {
        "hw2_1.sh": [*p1, "--per-digit", 1, "--batch-size", 4],
        "numbered images": [*p1, "--count", 10, "--batch-size", 4],
        "hw2_2.sh": ["p2_ddim.sample", tmp_path / "noises", "OUT/faces", tmp_path / "p2.pt", "--num-steps", 2],
        "hw2_3.sh": ["p3_dann.predict", digits / "data", "OUT/pred.csv", "--weights", tmp_path / "p3.pt"],
        "archive": ["homework.archive", "images", tmp_path / "images", "OUT/img_1.zip"],
        "release": ["homework.release", tmp_path / "p1.pt", "a.pt", "--folder", "OUT/checkpoints"],
        "training of problem 1": ["p1_cond_ddpm.train", "--data", digits, *run, *TINY_DENOISER],
        "training of problem 2": ["p2_ddim.train", "--data", tmp_path / "images", *run, *faces],
        "training of problem 3": ["p3_dann.train", "--data", data, *run, "--widths", 8, 8, "--target", "usps"],
    }
