"""The released checkpoints, through the graded scripts, on real data: not far below the numbers of the README."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from common.checkpoint import CHECKPOINTS
from common.diffusion import NoiseSchedule
from common.images import read_pictures, to_unit_range
from p1_cond_ddpm import judge
from p1_cond_ddpm.scores import accuracy
from p2_ddim import evaluate, noise
from p2_ddim.sampling import NUM_TIMESTEPS
from p2_ddim.train import eps_loss
from p2_ddim.unet import load_face_unet

pytestmark = pytest.mark.slow


def accuracy_of_folder(folder, capsys):
    assert judge.main(["--folder", str(folder)]) == 0
    return float(capsys.readouterr().out.split()[2])


def test_digits_without_guidance(real_data, script, tmp_path, capsys):
    options = "--sampler sde --num-steps 16 --early-steps 2 --guidance-scale 1 --autoguidance 1".split()
    result = script("hw2_1.sh", "out", "--per-digit", "25", *options)
    assert result.returncode == 0, result.stderr
    assert accuracy_of_folder(tmp_path / "out", capsys) >= 0.92  # of 1000 digits 0.96


def test_mnist_digits_on_demand(script, tmp_path):
    result = script("hw2_1.sh", "out", "--weights", CHECKPOINTS / "p1_mnist.pt", "--per-digit", "15")
    assert result.returncode == 0, result.stderr
    images, labels = judge.read_folder(tmp_path / "out")
    assert accuracy(images, labels, judge.OWN) >= 0.95


def test_mnist_digits_without_labels(script, tmp_path):
    options = "--count 300 --labels none --sampler sde --num-steps 16 --early-steps 2".split()
    result = script("hw2_1.sh", "out", "--weights", CHECKPOINTS / "p1_mnist.pt", *options)
    assert result.returncode == 0, result.stderr
    logits = judge.load(judge.OWN)(to_unit_range(read_pictures(tmp_path / "out")))
    assert torch.bincount(logits.argmax(dim=1), minlength=10).min() >= 12  # of 30 in the mean
    assert logits.softmax(dim=1).amax(dim=1).median() >= 0.95


def test_faces(real_data, script, tmp_path):
    unpack = [sys.executable, real_data / "data" / "unpack.py", tmp_path, "--only", "celeba"]
    subprocess.run(unpack, check=True, capture_output=True)
    x_0 = to_unit_range(read_pictures(tmp_path / "face" / "celeba64.npz", 32)[::20])
    torch.manual_seed(0)
    with torch.inference_mode():
        loss = eps_loss(load_face_unet(CHECKPOINTS / "p2_celeba32.pt"), NoiseSchedule.linear(NUM_TIMESTEPS), x_0)
    assert loss < 0.0145  # a fresh network: 0.9
    assert noise.main([str(tmp_path / "noise"), "--count", "4"]) == 0
    for precision in ("float32", "bf16"):
        result = script(
            "hw2_2.sh",
            "noise",
            precision,
            CHECKPOINTS / "p2_celeba32.pt",
            "--precision",
            precision,
            "--chunk-size",
            "4",
        )
        assert result.returncode == 0, result.stderr
    pictures = sorted((tmp_path / "float32").iterdir())
    errors = [evaluate.mean_squared_error(tmp_path / "bf16" / picture.name, picture) for picture in pictures]
    assert len(errors) == 4 and np.mean(errors) < 3


def test_the_demo_writes_all_digits_and_reaches_what_the_homework_requires(real_data, script, tmp_path, capsys):
    result = script("demo.sh", "--out", tmp_path / "demo", "--table", tmp_path / "demo.csv", HW2_VENV=sys.prefix)
    assert result.returncode == 0, result.stderr
    number = lambda column: column.str.extract(r"([\d.]+)", expand=False).astype(float)
    table = pd.read_csv(tmp_path / "demo.csv", index_col="problem")
    required, reached = number(table["required"]), number(table["reached"])
    smaller = table["required"].str.startswith("<")
    assert len(table) == 4 and (reached < required)[smaller].all() and (reached >= required)[~smaller].all()
    assert "domain: svhn" in result.stderr and "domain: usps" in result.stderr
    assert reached["3 MNIST-M to SVHN"] >= 90.3 and reached["3 MNIST-M to USPS"] >= 98.6
    assert sorted(p.name for p in (tmp_path / "demo" / "p1").iterdir()) == [
        f"{d}_{n:03d}.png" for d in range(10) for n in range(1, 101)
    ]
    assert accuracy_of_folder(tmp_path / "demo" / "p1", capsys) >= 0.985  # seed 0 0.993, mean of five 0.996
