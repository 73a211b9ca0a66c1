"""The trainings as torchrun starts them, with README's own options."""

import os
import subprocess
import sys

import pytest

from common.checkpoint import load_weights
from common.files import REPOSITORY

SMALL = {
    "p1_cond_ddpm.train": [
        "--widths",
        "16",
        "--blocks",
        "1",
        "--middle-blocks",
        "0",
        "--embedding",
        "16",
        "--num-timesteps",
        "20",
    ],
    "p3_dann.train": ["--widths", "8", "8"],
}


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )


@pytest.mark.parametrize("module", SMALL)
def test_torchrun_starts_a_training(tmp_path, digit_folder, module):
    folders = [digit_folder(name) for name in ("mnistm", "svhn", "usps")]
    data = folders[0] if module == "p1_cond_ddpm.train" else folders[0].parent
    options = [
        "--data",
        str(data),
        "--run-dir",
        str(tmp_path / "run"),
        "--steps",
        "2",
        "--batch-size",
        "4",
        *SMALL[module],
    ]
    result = torchrun("-m", module, *options)
    assert result.returncode == 0, result.stderr
    assert load_weights(tmp_path / "run" / "weights.pt").metadata["fit"]["steps"] == 2
