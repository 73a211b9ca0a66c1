"""Trainings as commands and under torchrun: README's own options, and signals."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from common.checkpoint import load_weights
from common.files import REPOSITORY
from tests.helpers import TINY_DENOISER, start_two

SMALL = {
    "p1_cond_ddpm.train": [*TINY_DENOISER, "--num-timesteps", "20"],
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


def test_a_signal_to_one_of_two_processes_saves_and_ends_both(tmp_path, digit_folder):
    data, run = digit_folder(), tmp_path / "run"
    options = ["--data", str(data), "--run-dir", str(run), "--steps", "100000", "--batch-size", "4", "--log-every", "1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["p1_cond_ddpm.train", *options, *SMALL["p1_cond_ddpm.train"]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").read_text())
        process.send_signal(signal.SIGTERM)
        errors = end_of(process)
    assert errors.count("saved after step") == 1, errors
    step = torch.load(run / "state.pt", weights_only=True)["step"]
    assert f"saved after step {step} of 100000" in errors


def test_a_killed_process_ends_the_other_with_one_line(tmp_path, digit_folder):
    run = tmp_path / "run"
    options = ["--data", str(digit_folder()), "--run-dir", str(run), "--steps", "100000", "--batch-size", "4"]
    first, other = start_two("-m", "p1_cond_ddpm.train", *options, *SMALL["p1_cond_ddpm.train"], "--log-every", "1")
    try:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").read_text())
        other.kill()
        errors = end_of(first)
    finally:
        other.kill()
    assert first.returncode == 2 and "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("error: another process of this job has ended or hangs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_its_exit_code_and_one_line(tmp_path, digit_folder, number):
    run = tmp_path / "run"
    options = ["--data", str(digit_folder()), "--run-dir", str(run), "--steps", "100000", "--batch-size", "4"]
    command = [sys.executable, "-m", "p1_cond_ddpm.train", *options, *SMALL["p1_cond_ddpm.train"], "--log-every", "1"]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").read_text())
        process.send_signal(number)
        errors = end_of(process)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith(f"stopped: {run}: saved after step ")


def end_of(process):
    """What a process has said on stderr when it ends by itself; killed where it doesn't."""
    try:
        return process.communicate(timeout=60)[1]
    finally:
        process.kill()


def wait_for(condition, *, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
