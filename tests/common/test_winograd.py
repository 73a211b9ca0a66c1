import pytest
import torch
import torch.nn.functional as F

from common import winograd
from common.device import has_bf16

needs_bf16 = pytest.mark.skipif(
    not has_bf16(torch.device("cpu")), reason="no bf16 here, and an emulation that rounds more"
)


def layer_of(in_channels, out_channels):
    return winograd.WinogradConv2d(torch.nn.Conv2d(in_channels, out_channels, 3, padding=1))


@pytest.fixture(autouse=True)
def small_layers_are_worth_it(monkeypatch):
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 32)


@torch.no_grad()
@pytest.mark.parametrize(
    "images, channels, outputs, height, width",
    [
        (2, 32, 48, 4, 8),
        (2, 40, 32, 36, 20),
        (2, 64, 32, 64, 128),
        (70, 32, 40, 7, 7),
        (21, 32, 32, 14, 13),
        (1, 3, 5, 1, 2),
    ],
)
def test_the_result_is_torchs(images, channels, outputs, height, width):
    torch.manual_seed(0)
    layer = layer_of(channels, outputs)
    x = torch.randn(images, channels, height, width)
    expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
    found = winograd.winograd_conv2d(x, winograd.transformed_filters(layer.weight), layer.bias.expand(images, -1))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_float64_tiles_are_exact():
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(shape, dtype=torch.float64) for shape in ((1, 3, 8, 8), (5, 3, 3, 3), (5,)))
    found = winograd.winograd_conv2d(x, winograd.transformed_filters(weight), bias[None])
    assert torch.allclose(found, F.conv2d(x, weight, bias, padding=1), atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), pytest.param(torch.bfloat16, 0.05, marks=needs_bf16)]
)
@pytest.mark.parametrize("images, height, width, fast", [(2, 36, 48, True), (17, 7, 7, True), (2, 7, 7, False)])
@pytest.mark.parametrize("modulated", [False, True])
def test_norm_and_silu_before_and_sums_after(dtype, tolerance, images, height, width, fast, modulated):
    torch.manual_seed(0)
    layer, norm = layer_of(64, 32), torch.nn.GroupNorm(32, 64)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    x, residual = 3 + torch.randn(images, 64, height, width), torch.randn(images, 32, height, width)
    offset, factor, shift = torch.randn(images, 32), torch.rand(images, 64), torch.randn(images, 64)
    y = norm(x) * factor[:, :, None, None] + shift[:, :, None, None] if modulated else norm(x)
    expected = F.conv2d(F.silu(y), layer.weight, layer.bias, padding=1) + offset[:, :, None, None]
    layer, norm = layer.to(dtype), norm.to(dtype)
    modulation = (factor.to(dtype), shift.to(dtype)) if modulated else None
    assert layer.faster_for(x.to(dtype)) == (fast and (dtype == torch.float32 or height > 32))
    for addend in (None, residual):
        wanted = expected if addend is None else expected + addend
        for memory in (torch.contiguous_format, torch.channels_last):
            inputs = [None if part is None else part.to(dtype).contiguous(memory_format=memory) for part in (x, addend)]
            found = layer.after_norm_and_silu(
                inputs[0], norm, modulation=modulation, offset=offset.to(dtype), residual=inputs[1]
            )
            assert found.dtype == dtype and (found - wanted).abs().max() < tolerance * wanted.abs().max()


@torch.no_grad()
def test_a_constant_channel_is_normalised_as_torch_does():
    x, norm = torch.full((1, 64, 32, 32), 100.3), torch.nn.GroupNorm(32, 64)
    scale, shift = winograd.group_norm_affine(x, norm)
    assert scale.isfinite().all() and (scale[:, :, None, None] * x + shift[:, :, None, None]).abs().max() < 0.1


@pytest.mark.parametrize(
    "changed, fast",
    [
        ("nothing", True),
        ("many small images", True),
        ("many small images in bf16", False),
        ("odd", True),
        ("few tiles", False),
        ("narrow", False),
        ("heavy", False),
        ("heavy, but large", True),
        ("float64", False),
        ("training", False),
    ],
)
def test_the_layer_takes_winograds_way_only_where_it_may(monkeypatch, changed, fast):
    calls = []
    monkeypatch.setattr(winograd, "winograd_conv2d", lambda x, *rest: calls.append(x.shape) or x)
    if changed.startswith("heavy"):
        monkeypatch.setattr(winograd, "SMALL_FILTERS", 32 * 32 - 1)
    channels = 16 if changed == "narrow" else 32
    shape = {
        "many small images": (16, 7, 7),
        "many small images in bf16": (16, 7, 7),
        "odd": (1, 33, 31),
        "few tiles": (15, 7, 7),
        "heavy": (2, 31, 31),
    }
    images, height, width = shape.get(changed, (1, 32, 32))
    layer, x = layer_of(channels, 32), torch.randn(images, channels, height, width)
    dtype = {"float64": torch.float64, "many small images in bf16": torch.bfloat16}.get(changed, torch.float32)
    layer, x = layer.to(dtype), x.to(dtype)
    with torch.set_grad_enabled(changed == "training"):
        layer(x)
    assert bool(calls) == fast


def test_no_extra_weights_are_stored():
    layer = layer_of(32, 32)
    with torch.no_grad():
        layer(torch.randn(1, 32, 32, 32))
    assert set(layer.state_dict()) == {"weight", "bias"}


@torch.no_grad()
@pytest.mark.parametrize("change", ["in place", "replaced", "removed, then replaced", "converted"])
def test_changed_weights_are_used(change):
    layer, x = layer_of(32, 32), torch.randn(1, 32, 32, 32)
    before = layer(x)
    if change == "in place":
        layer.weight.mul_(2)
    elif change == "converted":  # the new numbers may lie where the old ones lay
        layer.double().weight.mul_(2)
        layer.float()
    else:
        new = 2 * layer.weight
        if change.startswith("removed"):
            layer.weight = None
        layer.weight = torch.nn.Parameter(new)
    assert torch.allclose(layer(x) - layer.bias[:, None, None], 2 * (before - layer.bias[:, None, None]), atol=1e-4)
