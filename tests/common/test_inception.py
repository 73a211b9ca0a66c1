import sys
import types

import numpy as np
import pytest
import torch

from common import inception
from common.cli import UserError


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(0, 256, (3, 28, 28, 3), dtype=np.uint8)


def test_local_weights_in_the_packaged_network_give_the_local_features(real_data, images, monkeypatch):
    package = pytest.importorskip("pytorch_fid.inception", reason="pip install pytorch-fid torchvision")
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    local = inception.find_network(768)

    @torch.no_grad()
    def unfold(self, state):
        """Convolutions whose batch norm is folded in, into ones whose batch norm only adds."""
        for name, module in self.named_modules():
            if f"{name}.bias" in state:
                module.conv.weight.copy_(state[f"{name}.weight"])
                module.bn.weight.fill_((1 + module.bn.eps) ** 0.5)
                module.bn.bias.copy_(state[f"{name}.bias"])

    monkeypatch.setattr(package, "load_state_dict_from_url", lambda *_, **__: local.run.p)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", unfold)
    network = inception.packaged_network(768)
    assert network.dims == 768 and np.allclose(network.run(images), local.run(images), atol=1e-3)


def test_real_features_have_768_numbers(real_data, images, monkeypatch):
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    found = inception.features(images)
    assert found.shape == (3, 768) and np.allclose(inception.features(images[:2]), found[:2], atol=1e-4)


class InceptionV3(torch.nn.Module):
    """Stands in for the package's network: its maps are the image times the number of the block."""

    BLOCK_INDEX_BY_DIM = {2048: 3, 768: 2}

    def __init__(self, blocks):
        super().__init__()
        (self.block,) = blocks

    def forward(self, x):
        assert not self.training
        return [self.block * x]


@pytest.fixture
def package(monkeypatch):
    package = types.SimpleNamespace(InceptionV3=InceptionV3)
    monkeypatch.setitem(sys.modules, "pytorch_fid", types.SimpleNamespace(inception=package))
    monkeypatch.setitem(sys.modules, "pytorch_fid.inception", package)


@pytest.mark.parametrize("dims, block", [(2048, 3), (768, 2)])
def test_the_packages_features_are_the_means_of_its_maps(package, images, dims, block):
    network = inception.packaged_network(dims)
    assert (network.name, network.dims) == ("pytorch-fid's network", dims)
    assert np.allclose(network.run(images), block * images.mean(axis=(1, 2)) / 255, atol=1e-5)


def test_a_local_network_is_the_file_under_the_real_data(tmp_path, monkeypatch):
    monkeypatch.delenv("HW2_REAL_DATA", raising=False)
    assert inception.fid768() is None
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "fid768.py").write_text("class Inception:\n    weights = __file__\n")
    monkeypatch.setenv("HW2_REAL_DATA", str(tmp_path))
    network = inception.find_network(768)
    assert network.dims == 768 and network.run.weights == str(tmp_path / "eval" / "fid768.py")


@pytest.fixture
def offline(package, monkeypatch):
    """A package that can't download its weights, and a local network."""

    def download(self, blocks):
        raise OSError("no route")

    monkeypatch.setattr(InceptionV3, "__init__", download)
    monkeypatch.setattr(inception, "fid768", lambda: types.SimpleNamespace(Inception=lambda: "local"))


def test_the_local_network_serves_where_the_package_can_not(offline, capsys):
    assert inception.find_network() == ("local weights", 768, "local")
    assert "no route" in capsys.readouterr().err
    assert inception.find_network(768).name == "local weights" and not capsys.readouterr().err
    with pytest.raises(UserError, match="no 2048 features.*no route.*pip install"):
        inception.find_network(2048)


def test_without_any_network_the_user_hears_what_to_install(offline, monkeypatch):
    monkeypatch.setattr(inception, "fid768", lambda: None)
    with pytest.raises(UserError, match="no 768 features.*pytorch-fid"):
        inception.find_network()
