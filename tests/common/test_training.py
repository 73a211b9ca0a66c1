import contextlib
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from common.cli import Stopped, UserError
from common.diffusion import NoiseSchedule
from common.images import to_unit_range
from common.optimisers import FitOptions
from common.processes import Place
from common.run_folder import RunFolder
from common.training import Training, check_batch_size, fingerprint, fit, training_parser
from p1_cond_ddpm.train import v_loss
from p1_cond_ddpm.unet import UNet
from p2_ddim.train import eps_loss
from p2_ddim.unet import FaceUNet, FaceUNetConfig
from p3_dann import train as p3_train
from p3_dann.network import DigitNetwork, NetworkConfig
from p3_dann.objective import ObjectiveOptions
from tests.helpers import SMALL
from tests.tiny_training import OPTIONS, Interrupted, interrupted_at, loss, network, read_metrics

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("stop, optimizer", [(1, "muon"), (4, "muon"), (5, "adamw")])
def test_an_interrupted_run_ends_the_same_to_the_bit(tmp_path, stop, optimizer):
    whole, resumed, options = network(), network(), replace(OPTIONS, optimizer=optimizer)
    whole_ema = fit(loss, whole, options, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(interrupted_at(stop), resumed, options, tmp_path / "resumed")
    resumed = network()
    resumed_ema = fit(loss, resumed, options, tmp_path / "resumed")
    for a, b in ((whole, resumed), (whole_ema, resumed_ema)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    metrics = [read_metrics(tmp_path / run) for run in ("whole", "resumed")]
    for rows in metrics:
        assert all(row.pop("seconds") > 0 for row in rows)
    assert metrics[0] == metrics[1]
    assert [row["step"] for row in metrics[0]] == [2, 4, 6]


def test_a_line_of_metrics_has_the_means_since_the_last_one(tmp_path):
    fit(lambda m, s: (loss(m, s)[0], {"number": s.step / 3}), network(), OPTIONS, tmp_path)
    rows = read_metrics(tmp_path)
    assert [row["number"] for row in rows] == pytest.approx([0.5 / 3, 2.5 / 3, 4.5 / 3], rel=1e-5)
    assert rows[0]["learning_rate"] > 0 and rows[0]["gradient_norm"] > 0


def test_a_gradient_is_no_larger_than_clip(tmp_path):
    """All gradients are larger, so that one loss may count a thousand times as much."""

    def end(clip, factor):
        module, scaled = network(), lambda m, s: (loss(m, s)[0] * (factor if s.step == 2 else 1), {})
        fit(scaled, module, replace(OPTIONS, clip=clip), tmp_path / f"{clip} {factor}")
        return nn.utils.parameters_to_vector(module.parameters())

    assert torch.allclose(end(1e-3, 1), end(1e-3, 1000), atol=1e-6)
    assert not torch.allclose(end(0.0, 1), end(0.0, 1000), atol=1e-4)


def test_the_result_is_the_average_of_the_weights(tmp_path):
    module, weights = network(), []
    average = fit(
        lambda m, s: weights.append(m[4].weight.detach().clone()) or loss(m, s),
        module,
        replace(OPTIONS, ema_decay=0.1, steps=2, warmup=0, learning_rate=0.1),
        tmp_path,
    )
    assert torch.allclose(average[4].weight, 0.1 * weights[1] + 0.9 * module[4].weight)
    assert not torch.allclose(average[4].weight, module[4].weight)


def test_a_child_with_a_rate_moves_by_it(tmp_path):
    moved = []
    for rate in (1.0, 0.25):
        module = network()
        before = module[4].bias.detach().clone()
        fit(loss, module, replace(OPTIONS, steps=1), tmp_path / str(rate), rates={"4": rate})
        moved.append((module[4].bias.detach() - before).abs().max().item())
    assert moved[1] == pytest.approx(0.25 * moved[0], rel=1e-4)


def test_data_is_told_apart_by_content_shape_type_and_order():
    x, y = torch.arange(6, dtype=torch.uint8), torch.zeros(2)
    found = [fingerprint(*data) for data in ((x, y), (y, x), (x.flip(0), y), (x.reshape(2, 3), y), (x, y.int()), (x,))]
    assert len({*found}) == 6 and fingerprint(x.clone(), y) == found[0] and {*map(len, found)} == {16}


def test_every_process_and_seed_has_batches_and_random_numbers_of_its_own(tmp_path):
    seen = []

    def noting(module, step):
        assert step.ema is training.ema.module
        seen.append((step.batch, torch.rand(()).item()))
        return loss(module, step)

    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        options = replace(OPTIONS, seed=seed, optimizer="muon")
        training = Training(noting, network(), options, RunFolder(tmp_path))
        training.rank, training.world = rank, 2
        training.step(0)
        training.step(3)
    batches, numbers = zip(*seen)
    assert batches == (0, 6, 1, 7, 0, 6) and len({*numbers}) == 6
    rates = [group["lr"] for optimizer in training.optimizers for group in optimizer.param_groups]
    assert rates == [training.learning_rate(3)] * 3


@pytest.mark.parametrize("world", [1, 2])
def test_the_networks_of_several_processes_share_their_gradients(tmp_path, monkeypatch, world):
    met, module = [], network()
    monkeypatch.setattr("common.training.place", lambda: Place(0, world))
    monkeypatch.setattr("common.training.meet", met.append)
    monkeypatch.setattr("common.training.DistributedDataParallel", lambda module, **options: (module, options))
    shared = (module, {"find_unused_parameters": True})
    assert Training(loss, module, OPTIONS, RunFolder(tmp_path)).trained == (shared if world == 2 else module)
    assert met == ["gloo"]


def test_a_signal_to_any_process_stops_all_and_they_leave_together(tmp_path, monkeypatch):
    training, asked = Training(loss, network(), OPTIONS, RunFolder(tmp_path)), []
    monkeypatch.setattr(dist, "barrier", lambda: asked.append("barrier"))
    monkeypatch.setattr(dist, "all_reduce", lambda number, how: asked.append((number.item(), how)) or number.fill_(15))
    training.leave()
    assert training.agreed([], 3) == 0 and training.agreed([2, 15], 3) == 2 and not asked
    training.world = 2
    assert training.agreed([], 3) == training.agreed([2, 15], 3) == 15
    training.leave()
    assert asked == [(0, dist.ReduceOp.MAX), (2, dist.ReduceOp.MAX), "barrier"]
    training.device = torch.device("cuda")
    assert training.agreed([2], 3) == 0  # a GPU asks the others when it logs


def test_a_batch_larger_than_the_data_set_is_one_line():
    check_batch_size(5, 5)
    with pytest.raises(UserError, match="--batch-size 6: the data set has 5 images"):
        check_batch_size(6, 5)


def test_metrics_that_are_not_finite_are_null(tmp_path):
    fit(lambda m, s: (loss(m, s)[0], {"odd": float("nan")}), network(), OPTIONS, tmp_path)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text() and read_metrics(tmp_path)[0]["odd"] is None


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    def breaking(module, step):
        value, metrics = loss(module, step)
        if step.step == 5:
            with torch.no_grad():
                module[4].bias.fill_(math.inf)  # after the forward pass: loss and gradient are still finite
        return value, metrics

    with pytest.raises(
        UserError, match="a weight after step 6 is not finite, at learning rate 0.0005;.* step 5 is kept"
    ):
        fit(breaking, network(), OPTIONS, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_numbers_that_are_not_finite_end_a_run_before_its_state_is_overwritten(tmp_path, where):
    def breaking(module, step):
        value, metrics = loss(module, step)
        if step.step != 4:
            return value, metrics
        return (value * float("nan") if where == "loss" else value + value.detach().sub(value).sqrt(), metrics)

    options = replace(OPTIONS, steps=20, log_every=3, save_every=4)
    with pytest.raises(UserError, match="step 5 is not finite, at learning rate 0.001; the state after step 4 is kept"):
        fit(breaking, network(), options, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 4
    assert [row["step"] for row in read_metrics(tmp_path)] == [3]  # seen at the next line of metrics, before a state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first_and_the_run_goes_on_from_there(tmp_path, number):
    def signalled(module, step):
        if step.step == 3:
            os.kill(os.getpid(), number)
        return loss(module, step)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="saved after step 4 of 6") as stopped:
        fit(signalled, network(), OPTIONS, tmp_path / "run")
    assert stopped.value.signal_number == number and signal.getsignal(number) is before
    resumed, whole = network(), network()
    fit(loss, resumed, OPTIONS, tmp_path / "run")
    fit(loss, whole, OPTIONS, tmp_path / "whole")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), resumed.state_dict().values()))


def test_a_signal_while_the_last_state_is_saved_is_not_lost(tmp_path, monkeypatch):
    late = lambda run, done, preview: os.kill(os.getpid(), signal.SIGTERM) if done == OPTIONS.steps else None
    monkeypatch.setattr("common.training.draw_progress", late)
    with pytest.raises(Stopped, match="saved after step 6 of 6"):
        fit(loss, network(), OPTIONS, tmp_path)


def test_the_average_is_shown_whenever_a_state_is_due(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "common.training.draw_progress", lambda run, done, preview: drawn.append((run, done, preview()))
    )
    average = fit(loss, network(), OPTIONS, tmp_path, preview=lambda network: network)
    assert drawn == [(tmp_path, done, average) for done in (3, 5, 6)]


def test_one_batch_can_be_learnt_and_the_average_follows(tmp_path):
    x, y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16.0)[:, None] / 16
    module = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))
    options = FitOptions(
        steps=400, learning_rate=1e-2, warmup=10, ema_decay=0.95, precision="float32", log_every=400, save_every=400
    )
    ema = fit(lambda m, _: ((m(x) - y).square().mean(), {}), module, options, tmp_path)
    assert (ema(x) - y).square().mean() < 1e-3


def test_a_training_asks_for_its_data_and_its_folder(capsys):
    parser = training_parser("Train.\n    With care.", data="what to learn from")
    assert "Train.\n    With care." in parser.format_help() and "what to learn from" in parser.format_help()
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([])
    assert "required: --data, --run-dir" in capsys.readouterr().err


def test_presets_may_have_blank_lines_comments_and_any_line_ending(tmp_path):
    (tmp_path / "preset.txt").write_bytes(b"# mine\r\n--data=d\r\n\r\n  --run-dir=r \r\n\n")
    arguments = training_parser(None, data="").parse_args([f"@{tmp_path / 'preset.txt'}"])
    assert (arguments.data, arguments.run_dir) == (Path("d"), Path("r"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_presets_may_be_written_by_any_editor(tmp_path, encoding):
    preset = tmp_path / "preset.txt"
    preset.write_bytes("--data=d\n# für mich\n--run-dir=é\n".encode(encoding))
    arguments = training_parser(None, data="").parse_args([f"@{preset}"])
    name = os.fsdecode("é".encode("latin-1" if encoding == "latin-1" else "utf-8"))
    assert str(arguments.data) == "d" and str(arguments.run_dir) == name


def test_a_missing_preset_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        training_parser(None, data="").parse_args([f"@{tmp_path / 'none.txt'}"])
    assert "none.txt" in capsys.readouterr().err.splitlines()[-1]


def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    """On the meta device any number that is read is an error: one step of every kind of training reads none."""
    device = torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it doesn't know that device
    images = torch.zeros(8, 3, 28, 28, dtype=torch.uint8, device=device)
    labels = torch.zeros(8, dtype=torch.int64, device=device)
    schedule = NoiseSchedule.linear().to(device)
    recipe = p3_train.TrainOptions(batch_size=4)
    objective = ObjectiveOptions(ramp_steps=1, pseudo_start=0)

    def digits(module, step):
        x_0, y = to_unit_range(images[:4]), labels[:4]
        return v_loss(module, schedule, x_0, y, label_dropout=0.1, null_label=10), {}

    def faces(module, step):
        return eps_loss(module, schedule, to_unit_range(images[:2, :, :16, :16])), {}

    adaptation = p3_train.adaptation_loss(images, labels, images, recipe, objective, seed=0)
    thin = FaceUNetConfig(widths=(32, 32), attention_levels=(1,), time_channels=16, embedding=16)
    kinds = {
        "p1": (UNet, SMALL, digits),
        "p2": (FaceUNet, thin, faces),
        "p3": (DigitNetwork, NetworkConfig(), adaptation),
    }
    for name, (network_class, config, kind) in kinds.items():
        with device:
            module = network_class(config)

        def once(module, step, kind=kind):
            if step.step == 1:
                raise Interrupted
            return kind(module, step)

        options = replace(OPTIONS, steps=9, save_every=9, log_every=9, cooldown=0.1, optimizer="muon")
        with pytest.raises(Interrupted):
            fit(once, module, options, tmp_path / name)
