import struct
import sys
import types

import numpy as np
import pytest
import torch

from common.digits import load_training_digits
from homework import mnist


def test_torchvisions_files_become_a_training_set(tmp_path):
    pytest.importorskip("torchvision", reason="the current environment has no torchvision")
    images, labels = np.random.RandomState(0).randint(0, 256, (7, 28, 28), dtype=np.uint8), np.arange(7, dtype=np.uint8)
    raw = tmp_path / "kept" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):  # as downloaded before
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, *images.shape) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + labels.tobytes())
    options = ["--download", str(tmp_path / "kept"), "--pictures", str(tmp_path / "pictures")]
    assert mnist.main([str(tmp_path / "mnist.npz"), *options]) == 0
    digits = load_training_digits(tmp_path / "mnist.npz")
    assert torch.equal(load_training_digits(tmp_path / "pictures").images, digits.images)
    assert digits.labels.tolist() == list(range(7)) and torch.equal(digits.images[:, 1], torch.from_numpy(images))


def test_without_torchvision_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert mnist.main([str(tmp_path / "mnist.npz")]) == 2
    err = capsys.readouterr().err
    assert "pip install torchvision" in err and err.count("\n") == 1


def test_without_a_network_one_line_says_so(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried https://example.org")

    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", types.SimpleNamespace(MNIST=refuse))
    assert mnist.main([str(tmp_path / "mnist.npz")]) == 2
    err = capsys.readouterr().err
    assert "can't be downloaded" in err and err.count("\n") == 1 and not (tmp_path / "mnist.npz").exists()
