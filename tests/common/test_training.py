import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from common.cli import Stopped, UserError
from common.diffusion import NoiseSchedule
from common.files import REPOSITORY
from common.images import to_unit_range
from common.optimisers import FitOptions, learning_rate_factor, make_optimizers
from common.run_folder import read_settings
from common.training import fit, training_parser
from p1_cond_ddpm.loss import v_loss
from p1_cond_ddpm.unet import UNet
from p2_ddim.train import eps_loss
from p2_ddim.unet import FaceUNet, FaceUNetConfig
from p3_dann import train as p3_train
from p3_dann.network import DigitNetwork, NetworkConfig
from p3_dann.objective import ObjectiveOptions
from tests.helpers import SMALL

OPTIONS = FitOptions(steps=6, save_every=3, log_every=2, warmup=2, precision="float32", ema_decay=0.9)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 20), nn.Linear(20, 1))


def loss(module, step):
    x = torch.randn(16, 4)
    return (module(x) - x.sum(1, keepdim=True)).square().mean(), {"batch": step.batch}


def read_metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Interrupted(Exception):
    pass


def interrupted_at(stop):
    def interrupting(module, step):
        if step.step == stop:
            raise Interrupted
        return loss(module, step)

    return interrupting


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


def test_other_options_do_not_continue_a_run_and_are_named(tmp_path):
    fit(loss, network(), OPTIONS, tmp_path, settings={"train": {"target": "svhn"}})
    with pytest.raises(
        UserError,
        match="-rate 0.001 there, --learning-rate 0.002 here; --target svhn there, --target",
    ):
        fit(loss, network(), replace(OPTIONS, learning_rate=2e-3), tmp_path, settings={"train": {"target": "usps"}})


def test_a_resume_says_where_it_goes_on(tmp_path, capsys):
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    assert "goes on" not in capsys.readouterr().err
    fit(loss, network(), OPTIONS, tmp_path)
    assert f"{tmp_path}: goes on after step 3 of 6" in capsys.readouterr().err
    fit(loss, network(), OPTIONS, tmp_path)
    assert f"{tmp_path}: finished, all 6 steps" in capsys.readouterr().err


@pytest.mark.parametrize("cooldown, first, stop", [(0.5, 6, None), (0.5, 6, 2), (0.5, 8, 7), (0.0, 6, None)])
def test_a_run_made_longer_ends_as_if_it_had_been_so_from_the_start(tmp_path, cooldown, first, stop):
    options = replace(OPTIONS, steps=12, cooldown=cooldown, save_every=2)
    whole, longer = network(), network()
    fit(loss, whole, options, tmp_path / "whole")
    if stop is None:
        fit(loss, longer, replace(options, steps=first), tmp_path / "longer")
    else:
        with pytest.raises(Interrupted):
            fit(interrupted_at(stop), longer, replace(options, steps=first), tmp_path / "longer")
    longer = network()
    fit(loss, longer, options, tmp_path / "longer")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), longer.state_dict().values()))
    assert [row["step"] for row in read_metrics(tmp_path / "longer")] == [2, 4, 6, 8, 10, 12]


def test_a_grown_run_goes_on_after_a_crash_before_its_next_state(tmp_path):
    options, whole, longer = replace(OPTIONS, steps=12, save_every=50), network(), network()
    fit(loss, whole, options, tmp_path / "whole")
    fit(loss, longer, replace(options, steps=8), tmp_path / "longer")
    for stop in (6, 7):
        with pytest.raises(Interrupted):
            fit(interrupted_at(stop), network(), options, tmp_path / "longer")
        assert read_settings(tmp_path / "longer" / "options.json")["fit"]["steps"] == 12
    longer = network()
    fit(loss, longer, options, tmp_path / "longer")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), longer.state_dict().values()))


def test_a_folder_that_starts_anew_forgets_the_state_before_the_cooldown(tmp_path):
    fit(loss, network(), OPTIONS, tmp_path)
    (tmp_path / "state.pt").unlink()
    with pytest.raises(Interrupted):
        fit(interrupted_at(0), network(), replace(OPTIONS, seed=1), tmp_path)
    assert not (tmp_path / "before_cooldown.pt").exists()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("options.json", b"", "not readable as a run's options"),
        ("options.json", b"[]", "not readable as a run's options"),
        ("options.json", b'{"fit": {}}', "not readable as a run's options"),
        ("state.pt", b"damaged", "damaged, or not a PyTorch file"),
        ("state.pt", {"weights": 1}, "not the state of a training"),
        ("state.pt", {"step": 3, "sums": {}}, "a state of another version or network"),
    ],
)
def test_a_damaged_run_folder_is_one_line(tmp_path, name, content, words):
    fit(loss, network(), OPTIONS, tmp_path)
    (tmp_path / name).write_bytes(content) if isinstance(content, bytes) else torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=words):
        fit(loss, network(), OPTIONS, tmp_path)


def test_lost_metrics_do_not_stop_a_run(tmp_path):
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    fit(loss, network(), OPTIONS, tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path)] == [4, 6]


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

    with pytest.raises(UserError, match="a weight after step 6 is not finite.*the state after step 5 is kept"):
        fit(breaking, network(), OPTIONS, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


def test_a_run_is_not_made_shorter_than_what_its_states_allow(tmp_path):
    fit(loss, network(), replace(OPTIONS, steps=12), tmp_path)
    before = (tmp_path / "state.pt").read_bytes(), (tmp_path / "options.json").read_bytes()
    with pytest.raises(
        UserError, match="12 steps can't become one of 6.*step 12 and 8, and one after step 5 or.*--steps 12"
    ):
        fit(loss, network(), replace(OPTIONS, steps=6), tmp_path)
    assert before == ((tmp_path / "state.pt").read_bytes(), (tmp_path / "options.json").read_bytes())


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


def test_only_matrices_and_kernels_decay():
    layers = {
        "label": nn.Embedding(30, 20),
        "conv": nn.Conv2d(20, 40, 3),
        "norm": nn.GroupNorm(4, 40),
        "out": nn.Linear(40, 2),
    }
    module = nn.ModuleDict(layers)
    muon, adamw = make_optimizers(module, FitOptions(optimizer="muon", weight_decay=0.1))
    decayed = [
        p
        for optimizer in (muon, adamw)
        for group in optimizer.param_groups
        if group["weight_decay"]
        for p in group["params"]
    ]
    others = [
        p
        for optimizer in (muon, adamw)
        for group in optimizer.param_groups
        if not group["weight_decay"]
        for p in group["params"]
    ]
    assert {*decayed} == {module["conv"].weight, module["out"].weight} and muon.param_groups[0]["params"] == [
        module["conv"].weight
    ]
    assert {*decayed, *others} == {*module.parameters()}


def test_half_a_line_of_metrics_does_not_stop_a_run(tmp_path):
    with pytest.raises(Interrupted):
        fit(interrupted_at(5), network(), OPTIONS, tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    fit(loss, network(), OPTIONS, tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6]


def test_one_batch_can_be_learnt_and_the_average_follows(tmp_path):
    x, y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16.0)[:, None] / 16
    module = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))
    options = FitOptions(
        steps=400, learning_rate=1e-2, warmup=10, ema_decay=0.95, precision="float32", log_every=400, save_every=400
    )
    ema = fit(lambda m, _: ((m(x) - y).square().mean(), {}), module, options, tmp_path)
    assert (ema(x) - y).square().mean() < 1e-3


TWO_PROCESSES = """
import sys, torch
from pathlib import Path
from torch import nn
from common.diffusion import NoiseSchedule
from common.images import to_unit_range
from common.run_folder import read_settings
from p1_cond_ddpm.loss import v_loss
from p1_cond_ddpm.unet import UNet
from p2_ddim.train import eps_loss
from p2_ddim.unet import FaceUNet, FaceUNetConfig
from p3_dann import train as p3_train
from p3_dann.network import DigitNetwork, NetworkConfig
from p3_dann.objective import ObjectiveOptions
from tests.helpers import SMALL
from common.training import FitOptions, fit

def loss(module, step):
    x = torch.eye(4)[[step.batch % 4]]
    return (module(x) - step.batch).square().mean(), {}

torch.manual_seed(0)
module, run = nn.Linear(4, 1), Path(sys.argv[1])
fit(loss, module, FitOptions(steps=3, precision="float32", clip=1e9), run)
torch.save(module.state_dict(), run / f"{sys.argv[2]}{torch.initial_seed()}.pt")
"""


@pytest.mark.processes
def test_two_processes_take_different_batches_and_average_their_gradients(tmp_path):
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "script.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([*command, str(tmp_path / "run"), "rank"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = [torch.load(path, weights_only=True) for path in (tmp_path / "run").glob("rank*.pt")]

    def both(module, step):
        return torch.stack(
            [(module(torch.eye(4)[[b % 4]]) - b).square().mean() for b in (2 * step.step, 2 * step.step + 1)]
        ).mean(), {}

    torch.manual_seed(0)
    alone = nn.Linear(4, 1)
    fit(both, alone, FitOptions(steps=3, precision="float32", clip=1e9), tmp_path / "alone")
    assert len(found) == 2
    for state in found:
        assert all(torch.allclose(state[key], value, atol=1e-6) for key, value in alone.state_dict().items())


OWN_FOLDERS = """
import os, sys, torch
from pathlib import Path
from torch import nn
from common.training import FitOptions, fit

torch.manual_seed(0)
module, run = nn.Linear(4, 1), Path(sys.argv[1]) / os.environ["RANK"]
fit(lambda m, step: (m(torch.ones(1, 4)).square().mean(), {}), module, FitOptions(steps=3, precision="float32"), run)
torch.save(module.state_dict(), f"{run}{sys.argv[2]}.pt")
"""


@pytest.mark.processes
def test_only_the_first_process_needs_the_run_folder(tmp_path):
    """As on two machines without a common file system: rank 1 gets the state from rank 0, also in a resume."""
    (tmp_path / "script.py").write_text(OWN_FOLDERS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "script.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for name, finished in (("first", 0), ("again", 1)):
        result = subprocess.run([*command, name], env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("finished, all 3 steps") == finished
    names = ("0first", "0again", "1first", "1again")
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in names]
    assert all(torch.equal(state["weight"], states[0]["weight"]) for state in states)
    assert (tmp_path / "0" / "state.pt").exists() and not (tmp_path / "1").exists()


def test_every_start_notes_the_machine(tmp_path):
    for _ in range(2):
        fit(loss, network(), OPTIONS, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "machines.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and lines[0]["torch"] == torch.__version__ and {"device", "python", "commit"} < set(lines[0])
    assert read_settings(tmp_path / "options.json")["machine"] == {"world_size": 1, "computed_in": "float32"}


def test_learning_rate_is_a_trapezoid():
    options = FitOptions(steps=100, warmup=10, cooldown=0.2)
    factors = [learning_rate_factor(step, options) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[50] == 1.0 and factors[99] == pytest.approx(0.05)
    assert max(factors) == 1.0 and factors.index(1.0) == 9 and min(factors) > 0


def test_presets_may_have_blank_lines_comments_and_any_line_ending(tmp_path):
    (tmp_path / "preset.txt").write_bytes(b"# mine\r\n--data=d\r\n\r\n  --run-dir=r \r\n\n")
    arguments = training_parser(None, data="").parse_args([f"@{tmp_path / 'preset.txt'}"])
    assert (str(arguments.data), str(arguments.run_dir)) == ("d", "r")


def test_another_number_of_processes_is_another_run(tmp_path, monkeypatch):
    fit(loss, network(), OPTIONS, tmp_path)
    options = json.loads((tmp_path / "options.json").read_text())
    options["machine"]["world_size"] = 2
    (tmp_path / "options.json").write_text(json.dumps(options))
    with pytest.raises(UserError, match="processes 2 there, processes 1 here"):
        fit(loss, network(), OPTIONS, tmp_path)


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
