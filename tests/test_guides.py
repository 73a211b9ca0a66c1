"""The commands of README and the guides run, one block after the other, on small data and shortened."""

import importlib
import shlex
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common import fid
from common.checkpoint import save_weights
from common.files import REPOSITORY
from common.inception import Network
from homework import archive, flow, report
from p1_cond_ddpm import figures as digit_figures
from p1_cond_ddpm import scores, strokes
from p1_cond_ddpm.process import reverse_process
from p1_cond_ddpm.sampling import digits_by_number
from p2_ddim import figures as face_figures
from p2_ddim import interpolate, noise, sampling
from p2_ddim import sweep as face_sweep
from p2_ddim.unet import FaceUNet
from tests.helpers import GUIDES, THIN, block_lines

pytest.importorskip("typst", reason="no typst; install requirements-report.txt")
OTHERS = ("pip install ", "python3 -m pytorch_fid ", "mutmut ")  # commands of other packages
TRAINING = "--steps 2 --batch-size 4"
DENOISER = f"{TRAINING} --blocks 1 --middle-blocks 0 --embedding 16"
SHORTER = {  # by what a line begins with: options after its own
    "bash hw2_1.sh": "--per-digit 1",
    "bash hw2_2.sh": "--num-steps 2",
    "python3 -m homework.flow": DENOISER,
    "python3 -m homework.release": "--folder checkpoints",
    "python3 -m p1_cond_ddpm.distill": TRAINING,
    "python3 -m p1_cond_ddpm.evaluate": "--seeds 0 --per-digit 1 --num-steps 2",
    "python3 -m p1_cond_ddpm.process": "--num-steps 8",
    "python3 -m p1_cond_ddpm.sample": "--count 4 --num-steps 2",
    "python3 -m p1_cond_ddpm.sweep": "--per-digit 1 --num-steps 2",
    "python3 -m p1_cond_ddpm.train": DENOISER,
    "python3 -m p2_ddim.noise": "--count 4",
    "python3 -m p2_ddim.sweep": "--count 2 --steps 2",
    "python3 -m p2_ddim.train": f"{TRAINING} --size 32",
    "python3 -m p3_dann.train": f"{TRAINING} --widths 8 8",
    "HW2_FAULT_POINTS=30": "-k hw2_3",
}


def shortened(line):
    line = " ".join([line, *(options for start, options in SHORTER.items() if line.startswith(start))])
    return line.replace("HW2_FAULT_POINTS=30", "HW2_FAULT_POINTS=1").replace("FACES", "faces.npz")


@pytest.fixture
def clone(tmp_path, digit_folder, monkeypatch, undrawn):
    """The current folder, with the repository's files and small data; and shorter what no option makes shorter."""
    root = tmp_path / "clone"
    root.mkdir()
    for path in REPOSITORY.iterdir():
        if path.name in ("docs", "checkpoints"):  # which commands change
            shutil.copytree(path, root / path.name)
        elif path.name not in ("runs", "hw2_data", ".git"):
            (root / path.name).symlink_to(path)
    monkeypatch.chdir(root)
    monkeypatch.delenv("HW2_REAL_DATA", raising=False)
    for name in ("mnistm", "svhn", "usps"):
        digit_folder(name, 60)
    (root / "hw2_data" / "face").mkdir(parents=True)
    (root / "hw2_data" / "digits").symlink_to(tmp_path / "digits")
    save_weights(root / "hw2_data" / "face" / "UNet.pt", FaceUNet(THIN), THIN)
    assert noise.main(["hw2_data/face/noise", "--count", "4"]) == 0
    images = np.random.RandomState(0).randint(0, 256, (20, 28, 28), dtype=np.uint8)
    (root / "runs").mkdir()
    np.savez(root / "runs" / "mnist.npz", images=images)
    np.savez(root / "faces.npz", images=np.random.RandomState(0).randint(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    shutil.copy("docs/mnist_report.pdf", "report_ID.pdf")
    shutil.copytree("docs", "fresh")
    for module in (scores, strokes):
        monkeypatch.setattr(module, "REFERENCE", 6)
    for module in (scores, face_sweep):
        monkeypatch.setattr(module, "features", lambda images, *_: images)
        monkeypatch.setattr(module, "quality", lambda images, real: {"fid768": 0.5, "density": 0.5, "coverage": 0.5})
    means = lambda images: images.mean(axis=(1, 2)).astype(np.float32)
    monkeypatch.setattr(fid, "find_network", lambda dims: Network("colours", 3, means))
    monkeypatch.setattr("homework.siblings.packaged_network", lambda dims: Network("colours", 3, means))
    monkeypatch.setattr(archive, "COUNT", 4)
    monkeypatch.setattr(flow, "CLIPPED", [*flow.CLIPPED, "--steps", "1", "--batch-size", "4"])
    monkeypatch.setattr(flow, "FAST", ["--num-steps", "2"])
    monkeypatch.setattr(flow, "PROCESS", ["--num-steps", "8"])
    monkeypatch.setattr(report, "SOURCES", {root / "fresh" / path.name: most for path, most in report.SOURCES.items()})
    monkeypatch.setattr(report, "CHECKPOINTS", root / "checkpoints")
    monkeypatch.setattr(digit_figures, "WEIGHTS", root / "checkpoints" / "p1_mnistm.pt")
    check_figures = report.check_figures  # of what the guide drew, where a report is made of docs as they are
    monkeypatch.setattr(report, "check_figures", lambda folder: check_figures(root / "docs"))
    monkeypatch.setattr(face_sweep, "MOST_STEPS", 3)
    monkeypatch.setattr(face_figures, "STEPS", (1, 2))
    monkeypatch.setattr(face_figures, "MOST_STEPS", 3)
    monkeypatch.setattr(face_figures, "EDIT_STEPS", 2)
    faces = lambda *given, num_steps=2, **how: sampling.sample_faces(*given, num_steps=num_steps, **how)
    for module in (face_figures, interpolate):
        monkeypatch.setattr(module, "sample_faces", faces)
    inverted = lambda *given, num_steps=2: sampling.invert_faces(*given, num_steps=num_steps)
    monkeypatch.setattr(face_figures, "invert_faces", inverted)
    monkeypatch.setattr(face_figures, "seeded_noises", lambda count, size: noise.seeded_noises(min(count, 4), size))
    monkeypatch.setattr(digit_figures, "digits_by_number", lambda count, seed: digits_by_number(1, seed=seed))
    process = lambda *given, parts: reverse_process(*given[:-1], replace(given[-1], num_steps=20), parts=parts)
    monkeypatch.setattr(digit_figures, "reverse_process", process)
    downloaded = types.SimpleNamespace(data=torch.from_numpy(images), targets=torch.arange(20) % 10)
    stand_in = types.SimpleNamespace(MNIST=lambda *_, **__: downloaded)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", stand_in)
    return root


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The shell's: `python3` is this interpreter, and HW2_VENV has a Python that prints what it is given."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    echo = tmp_path / "venv" / "bin" / "python"
    echo.write_text('#!/bin/sh\necho "$@"\n')
    echo.chmod(0o755)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("HW2_VENV", str(tmp_path / "venv"))


def run_line(line):
    print(line)
    if line.startswith(("python3 -m ", "bash grade.sh ")):
        _, _, module, *arguments = shlex.split(shortened(line).replace("bash grade.sh", "python3 -m homework.grade"))
        assert importlib.import_module(module).main(arguments) == 0
        return
    done = subprocess.run(["bash", "-c", shortened(line)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_commands_of_a_guide_run(clone, environment, guide):
    for line in block_lines(guide.read_text(encoding="utf-8")):
        if line.startswith(OTHERS):
            assert all(Path(word).exists() for word in shlex.split(line) if "/" in word)
        else:
            run_line(line)
