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


@pytest.fixture
def offline(monkeypatch):
    """A package that can't download its weights, and a local network."""

    class InceptionV3:
        BLOCK_INDEX_BY_DIM = {2048: 3, 768: 2}

        def __init__(self, blocks):
            raise OSError("no route")

    package = types.SimpleNamespace(InceptionV3=InceptionV3)
    monkeypatch.setitem(sys.modules, "pytorch_fid", types.SimpleNamespace(inception=package))
    monkeypatch.setitem(sys.modules, "pytorch_fid.inception", package)
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
