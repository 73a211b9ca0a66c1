import copy

import pytest
import torch

from common import winograd
from p1_cond_ddpm.unet import UNet, UNetConfig
from p1_cond_ddpm.winograd import use_winograd
from tests.helpers import SMALL, randomised


@pytest.mark.parametrize(
    "config", [SMALL, UNetConfig(widths=(16, 32, 32), patch_size=1), UNetConfig(widths=(16,), image_channels=1)]
)
def test_output_has_the_inputs_shape(config):
    x = torch.randn(2, config.image_channels, 28, 28)
    assert UNet(config)(x, torch.tensor([0, 999]), torch.tensor([3, 10])).shape == x.shape


def test_a_fresh_network_predicts_zero():
    assert UNet(SMALL)(torch.randn(1, 3, 28, 28), torch.tensor([5]), torch.tensor([1])).abs().max() == 0


@pytest.mark.parametrize("changed", ["x", "t", "label"])
def test_output_depends_on_every_input_and_on_its_own_row_only(changed):
    model = randomised(UNet(SMALL))
    x, t, labels = torch.randn(2, 3, 28, 28), torch.tensor([100, 500]), torch.tensor([1, 2])
    before = model(x, t, labels)
    {"x": x, "t": t, "label": labels}[changed][1] += 1
    after = model(x, t, labels)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1], atol=1e-3)


def test_every_parameter_gets_a_gradient():
    model = randomised(UNet(SMALL)).train()
    model(torch.randn(11, 3, 28, 28), torch.arange(11) * 90, torch.arange(11)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_the_layout_of_feature_maps_changes_nothing_but_rounding(monkeypatch):
    model = randomised(UNet(SMALL))
    arguments = torch.randn(2, 3, 28, 28), torch.tensor([100, 500]), torch.tensor([1, 2])
    seen, outputs = [], []
    model.output.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    for layout in (torch.contiguous_format, torch.channels_last):
        monkeypatch.setattr("p1_cond_ddpm.unet.layout", lambda device, layout=layout: layout)
        outputs.append(model(*arguments))
        assert seen[-1].is_contiguous(memory_format=layout) and outputs[-1].is_contiguous()
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_winograds_convolutions_change_nothing_but_rounding(monkeypatch):
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 16)
    config = UNetConfig(widths=(16, 32), patch_size=2, guide_widths=(16, 16), head_interval=(0, 999))
    model = randomised(UNet(config))
    fast = use_winograd(copy.deepcopy(model))
    assert fast.state_dict().keys() == model.state_dict().keys()
    calls, counted = [], winograd.winograd_conv2d
    monkeypatch.setattr(
        winograd, "winograd_conv2d", lambda x, *rest, **how: calls.append(x) or counted(x, *rest, **how)
    )
    x, t, labels = torch.randn(40, 3, 28, 28), torch.arange(40) * 25, torch.arange(40) % 11
    torch.testing.assert_close(
        fast(x, t, labels, guidance=True), model(x, t, labels, guidance=True), rtol=1e-4, atol=1e-4
    )
    assert len(calls) == 2 * (2 * 4 + 2 + 2)  # two of every block: of both levels, of the middle, of the head
    torch.testing.assert_close(fast.guide(x, t, labels), model.guide(x, t, labels), rtol=1e-4, atol=1e-4)
