import os
import pickle
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from common.checkpoint import load_network, load_tensors, load_weights, save_weights
from common.cli import UserError


@dataclass(frozen=True)
class Shape:
    sizes: tuple[int, ...] = (3, 2)


class Shaped(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.linear = nn.Linear(*shape.sizes)


def test_weights_round_trip(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save_weights(tmp_path / "a.pt", module, Shape(), note="x")
    weights = load_weights(tmp_path / "a.pt")
    assert weights.config == {"sizes": [3, 2]} and weights.metadata == {"note": "x"}
    module.load_state_dict(weights.state_dict)
    assert torch.equal(weights.state_dict["0.weight"], module[0].weight.half().float())
    assert weights.state_dict["1.num_batches_tracked"].dtype == torch.int64


WHAT_IT_IS = {
    "missing": "no such file",
    "empty": "an empty file",
    "truncated": "damaged, or not a PyTorch file",
    "text": r"text, not a PyTorch file \(hello\)",
    "foreign": "not a weight file of this project",
    "code": r"holds a Python object \(torch.nn.modules.linear.Linear\)",
}


@pytest.mark.parametrize("damage", WHAT_IT_IS)
def test_damaged_files_are_a_users_error(tmp_path, damage):
    path = tmp_path / "a.pt"
    save_weights(path, nn.Linear(50, 50), Shape())
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        torch.save({"state_dict": {}}, path)
    elif damage == "code":
        torch.save({"config": nn.Linear(1, 1), "metadata": {}, "state_dict": {}}, path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(UserError, match=r"a\.pt: " + WHAT_IT_IS[damage]):
        load_weights(path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"<!DOCTYPE html><html>virus scan warning</html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b'{"message":\n"Not Found"}', r'text, not a PyTorch file \({"message": "Not Found"}\)'),
        (b"\x1f\x8b\x08" + bytes(9), "packed by gzip"),
        (b"\x93NUMPY" + bytes(9), "NumPy arrays"),
        (bytes(9), "damaged"),
        (pickle.dumps({"a": 1}, 4), "a pickle of a protocol"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("zip", "a zip file, but not of torch.save"),
        ("npz", "NumPy arrays"),
        ("script", "a TorchScript module"),
        (np.zeros((1, 3, 32, 32), np.float32), "holds a Python object .*numpy"),
    ],
)
def test_what_is_no_weight_file_is_named_and_safe_loading_stays_on(tmp_path, content, words):
    path = tmp_path / "UNet.pt"
    if isinstance(content, str) and content == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("UNet.pt", b"inside")
    elif isinstance(content, str) and content == "npz":
        with open(path, "wb") as file:
            np.savez(file, np.ones(3))
    elif isinstance(content, str):
        torch.jit.save(torch.jit.script(nn.ReLU()), path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=words) as refused:
        load_tensors(path)
    assert "weights_only" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_flipped_bit_is_seen(tmp_path):
    path = tmp_path / "UNet.pt"
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(9).numpy().tobytes()) + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="UNet.pt: damaged"):
        load_tensors(path)


def test_a_pipe_is_no_file_to_load(tmp_path):
    os.mkfifo(tmp_path / "UNet.pt")
    with pytest.raises(UserError, match="UNet.pt: not a regular file"):
        load_tensors(tmp_path / "UNet.pt")


def test_a_file_without_checksums_is_read(tmp_path):
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes them")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.arange(3.0), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_tensors(tmp_path / "a.pt"), torch.arange(3.0))


@pytest.mark.parametrize("kind", ["sparse", "meta", "quantised", "list"])
def test_weights_that_are_no_plain_tensors_are_refused(tmp_path, kind):
    weight = torch.ones(2, 3)
    other = {
        "sparse": weight.to_sparse,
        "meta": lambda: weight.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "list": weight.tolist,
    }
    torch.save({"config": {}, "metadata": {}, "state_dict": {"linear.weight": other[kind]()}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="linear.weight is no tensor of real numbers|holds a Python object"):
        load_weights(tmp_path / "a.pt")


def test_safetensors_are_read_where_the_package_is(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"a": torch.arange(3.0)}, tmp_path / "UNet.pt")
    assert torch.equal(load_tensors(tmp_path / "UNet.pt")["a"], torch.arange(3.0))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UserError, match="pip install safetensors"):
        load_tensors(tmp_path / "UNet.pt")


def test_a_network_with_a_nan_is_refused(tmp_path):
    module = Shaped(Shape())
    save_weights(tmp_path / "w.pt", module, Shape())
    content = torch.load(tmp_path / "w.pt", weights_only=True)
    content["state_dict"]["linear.bias"][1] = torch.nan
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="linear.bias is not finite"):
        load_network(tmp_path / "w.pt", Shaped, Shape)
