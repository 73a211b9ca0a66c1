"""Fixtures: tiny data sets made here, and the real data where HW2_REAL_DATA names it."""

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tqdm import tqdm

from common.files import REPOSITORY

STARTS_PROCESSES = ("test_trainings.py", "test_environment.py", "test_documents.py", "test_guides.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"script", "predict"} & {*item.fixturenames} or item.path.name in STARTS_PROCESSES:  # type: ignore[attr-defined]
            item.add_marker("processes")
        if "golden" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("large")


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """Every test starts from the same seed and computes in one thread."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is shared by the forks of mutation testing, and held where one is killed
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore, and hand on


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw no curves, which would take longer than their few steps."""
    monkeypatch.setattr("common.training.draw_progress", lambda *_: None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with course/ and data/, or a skip."""
    path = Path(os.environ.get("HW2_REAL_DATA", ""))
    if not (path / "course").is_dir():
        pytest.skip("HW2_REAL_DATA names no folder with course/ and data/")
    return path


@pytest.fixture(scope="session")
def real_val(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Val images (N, 28, 28, 3) uint8 and labels (N,) of a set by name."""
    out = tmp_path_factory.mktemp("real")

    @functools.cache
    def load(name: str) -> tuple[np.ndarray, np.ndarray]:
        unpack = [sys.executable, real_data / "data" / "unpack.py", out, "--npz", "--only", name]
        subprocess.run(unpack, check=True, capture_output=True)
        content = np.load(out / f"{name}.npz")
        val = content["split"] == "val"
        images = content["images"][val]
        return (images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)), content["labels"][val]

    return load


@pytest.fixture
def digit_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make root/NAME with data/*.png, train.csv and val.csv: each digit a bright square at its own place."""

    def make(name: str = "mnistm", count: int = 40) -> Path:
        root, random = tmp_path / "digits" / name, np.random.RandomState(0)
        (root / "data").mkdir(parents=True)
        rows = []
        for i in range(count):
            label = i % 10
            image = random.randint(0, 60, (28, 28, 3), dtype=np.uint8)
            top, left = 2 + label // 5 * 13, 1 + label % 5 * 5
            image[top : top + 10, left : left + 5] = 255
            Image.fromarray(image).save(root / "data" / f"{i:05d}.png")
            rows.append((f"{i:05d}.png", label))
        for csv in ("train.csv", "val.csv"):
            pd.DataFrame(rows, columns=["image_name", "label"]).to_csv(root / csv, index=False)
        return root

    return make


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run one of the repository's scripts from another folder, with this interpreter as python3."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").symlink_to(sys.executable)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(bin_folder), os.environ["PATH"]])

    def run(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        command = ["bash", str(REPOSITORY / name), *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True
        )

    return run
