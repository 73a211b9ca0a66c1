"""Which precision a device gets, and training in fp16."""

import pytest
import torch

from common.cli import UserError
from common.device import has_bf16, layout, make_scaler, training_precision, usable_precision
from common.training import fit
from tests.tiny_training import OPTIONS, Interrupted, interrupted_at, loss, network

pytestmark = pytest.mark.usefixtures("undrawn")

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "device, has_bf16, asked, sampling, training",
    [
        (GPU, False, "bf16", "float32", "fp16"),  # RTX 2080 Ti, T4
        (GPU, False, "fp16", "fp16", "fp16"),
        (GPU, False, "float32", "float32", "float32"),
        (GPU, True, "bf16", "bf16", "bf16"),
        (GPU, True, "fp16", "fp16", "fp16"),
        (CPU, False, "bf16", "float32", "float32"),
        (CPU, True, "bf16", "bf16", "bf16"),
        (CPU, True, "fp16", "float32", "float32"),
    ],
)
def test_a_gpu_without_bf16_trains_in_fp16_and_samples_in_float32(
    monkeypatch, device, has_bf16, asked, sampling, training
):
    monkeypatch.setattr("common.device.has_bf16", lambda device: has_bf16)
    assert (usable_precision(device, asked), training_precision(device, asked)) == (sampling, training)


@pytest.mark.parametrize(
    "flags, bf16, channels_last", [("sse2", 0, 1), ("avx512_bf16", 1, 0), ("amx_bf16", 1, 1), ("bf16", 1, 0)]
)
def test_what_a_cpu_can_do_is_read_off_its_flags(monkeypatch, tmp_path, flags, bf16, channels_last):
    (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {flags} sse\n", encoding="utf-8")
    monkeypatch.setattr("common.device.CPU_FLAGS", tmp_path / "cpuinfo")
    monkeypatch.setattr("common.device.has_bf16", has_bf16.__wrapped__)
    assert has_bf16.__wrapped__(CPU) == bool(bf16)
    assert (layout.__wrapped__(CPU) is torch.channels_last) == bool(channels_last)
    assert layout.__wrapped__(GPU) is torch.contiguous_format


def test_only_fp16_is_scaled(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)  # how torch 2.0.1 asks
    assert [make_scaler(name).is_enabled() for name in ("fp16", "bf16", "float32")] == [True, False, False]


@pytest.fixture
def scaled(monkeypatch):
    """Let `fit` scale on a CPU, from the given scale on."""
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this torch scales on GPUs alone")

    def begin(scale):
        scaler = lambda precision: torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=100)
        monkeypatch.setattr("common.training.make_scaler", scaler)

    return begin


def test_a_scaled_run_leaves_out_steps_that_overflow_and_resumes_to_the_bit(tmp_path, scaled):
    scaled(2.0**127)
    whole, resumed, seen = network(), network(), []

    def watched(module, step):
        seen.append(module[0].weight.detach().clone())
        return loss(module, step)

    fit(watched, whole, OPTIONS, tmp_path / "whole")
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[-2], seen[-1])
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path / "resumed")
    fit(loss, resumed, OPTIONS, tmp_path / "resumed")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), resumed.state_dict().values()))
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "resumed")]
    assert states[0]["scaler"] == states[1]["scaler"] and states[0]["scaler"]["scale"] < 2.0**127


def test_a_gradient_that_is_never_finite_ends_a_scaled_run(tmp_path, scaled):
    scaled(4.0)

    def breaking(module, step):
        value, metrics = loss(module, step)
        return value + value.detach().sub(value).sqrt(), metrics

    with pytest.raises(UserError, match="loss or gradient of step 3 is not finite.*no state was saved"):
        fit(breaking, network(), OPTIONS, tmp_path)
