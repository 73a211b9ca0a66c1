from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from common.checkpoint import load_weights, save_weights
from common.diffusion import NoiseSchedule
from p1_cond_ddpm import distill, join, sweep, train
from p1_cond_ddpm.guidance import guided
from p1_cond_ddpm.sampling import SampleOptions, load_denoiser, sample_digits, usable_options
from p1_cond_ddpm.unet import GuidanceHead, UNet
from tests.helpers import FAST, SMALL, assert_refused, randomised

NARROW = replace(SMALL, widths=tuple(width + 16 for width in SMALL.widths))
SCHEDULE = NoiseSchedule.cosine()
INTERVAL = (200, 600)


def with_guide():
    return randomised(UNet(replace(SMALL, guide_widths=NARROW.widths))).requires_grad_(False)


@pytest.fixture
def data(digit_folder):
    return ["--data", str(digit_folder())]


@pytest.fixture
def distilled(tmp_path, data):
    """A network with a guide, and the same with a head that learned for two steps."""
    network = with_guide()
    save_weights(tmp_path / "guided.pt", network, network.config, train={"label_dropout": 0.1}, labelled=True)
    assert distill.main([str(tmp_path / "guided.pt"), *run_options(tmp_path, data)]) == 0
    return tmp_path / "guided.pt", tmp_path / "run" / "weights.pt"


def run_options(folder, data):
    run = [*data, "--run-dir", str(folder / "run"), "--steps", "2", "--batch-size", "8", "--ema-decay", "0.9"]
    return [*run, "--interval", "200", "600", *FAST]


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_the_loss_is_the_heads_error_as_one_of_x_0_in_its_interval(off):
    network, labels, seen = with_guide(), torch.arange(8), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))

    def head(levels, embedding):
        x_t, t, null = seen[0]
        return F.pixel_unshuffle(network(x_t, t, labels) - network(x_t, t, null) + off, SMALL.patch_size)

    loss, parts = distill.head_loss(head, network, torch.rand(8, 3, 28, 28) * 2 - 1, labels, INTERVAL)
    timesteps = seen[0][1]
    assert INTERVAL[0] <= timesteps.min() < 251 and 549 < timesteps.max() <= INTERVAL[1]  # one in each eighth
    assert loss == pytest.approx(off * float((1 - SCHEDULE.alphas_cumprod[timesteps]).mean()), rel=1e-4, abs=1e-9)
    assert parts["difference"] > 0


@pytest.mark.parametrize("labels", [[3, 4], [3, 10], [10, 10]])
@pytest.mark.parametrize("t", [100, 250, 450, 850])
def test_a_head_that_knows_the_difference_guides_as_a_second_pass_does(labels, t):
    model, rows = with_guide(), []

    def headed(x_t, t, labels, guidance=False):
        rows.append(len(labels))
        v, null = model(x_t, t, labels), torch.full_like(labels, 10)
        other = torch.where(labels[:, None, None, None] == 10, 7.0, v - model(x_t, t, null))  # taught nothing of null
        return torch.cat([v, other], dim=1) if guidance else v

    x, t, labels = torch.randn(2, 3, 28, 28), torch.tensor([t, t]), torch.tensor(labels)
    how = {"scale": 3.0, "null_label": 10, "interval": (200, 900), "chroma": 0.3}
    how |= {"guide": model.guide, "guide_scale": 2.5, "guide_interval": (400, 800)}
    assert torch.allclose(
        guided(headed, labels, head_interval=INTERVAL, **how)(x, t), guided(model, labels, **how)(x, t), atol=1e-5
    )
    assert rows == [4 if t[0] == 850 and bool((labels != 10).any()) else 2]


def test_the_head_alone_learns(distilled):
    before, after = map(load_denoiser, distilled)
    assert after.config == replace(before.config, head_interval=INTERVAL)
    assert all(torch.equal(after.state_dict()[key], value) for key, value in before.state_dict().items())
    state = torch.load(distilled[1].with_name("state.pt"), weights_only=True)
    learned, average = after.head.output.weight, state["ema"]["module"]["output.weight"]
    assert torch.allclose(learned, average, atol=1e-4) and not torch.allclose(learned, state["module"]["output.weight"])
    metadata = load_weights(distilled[1]).metadata
    assert metadata["train"] == {"label_dropout": 0.1} and metadata["head"]["fit"]["steps"] == 2


def test_a_run_is_of_one_network_and_a_head_is_learned_anew(distilled, tmp_path, data, capsys):
    assert_refused(distill.main, [distilled[1], *run_options(tmp_path, data)], capsys, "run")
    assert distill.main([str(distilled[1]), *run_options(tmp_path / "again", data)]) == 0
    first, second = (load_denoiser(path).state_dict() for path in (distilled[1], tmp_path / "again/run/weights.pt"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_every_level_reaches_a_head():
    head = randomised(GuidanceHead((16, 32, 48), 3, 32))
    levels = [torch.randn(1, width, side, side) for width, side in ((48, 7), (32, 14), (16, 28))]
    embedding = torch.randn(1, 32)
    found = head(levels, embedding)
    for number in range(3):
        changed = [2 * level if n == number else level for n, level in enumerate(levels)]
        assert not torch.allclose(head(changed, embedding), found, rtol=1e-3)


def test_a_head_saves_a_pass_and_can_be_left_out(distilled):
    before, after = map(load_denoiser, distilled)
    rows = []
    after.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    options = SampleOptions(num_steps=4, spacing=1.0, guidance_every=1, precision="float32")  # 999, 749, 499, 249
    by_passes = replace(options, guidance_interval=(200, 800))
    by_head = sample_digits(after, [3, 4], [0, 1], replace(by_passes, guidance_head=True))
    assert rows == [2, 4, 2, 2]
    without_head = sample_digits(before, [3, 4], [0, 1], by_passes)
    assert torch.equal(sample_digits(after, [3, 4], [0, 1], by_passes), without_head)
    assert not torch.equal(by_head, without_head)


def test_a_new_guide_keeps_the_head_and_a_training_starts_without_it(distilled, tmp_path, data):
    guide = randomised(UNet(NARROW))
    save_weights(tmp_path / "guide.pt", guide, NARROW)
    assert join.main([str(distilled[1]), str(tmp_path / "guide.pt"), str(tmp_path / "joined.pt")]) == 0
    before, joined = load_denoiser(distilled[1]), load_denoiser(tmp_path / "joined.pt")
    assert joined.config == before.config
    assert torch.equal(joined.head.output.weight, before.head.output.weight)
    assert not torch.equal(joined.guide.output.weight, before.guide.output.weight)
    network = ["--widths", "16", "32", "--blocks", "1", "--middle-blocks", "1", "--embedding", "32"]
    run = [*data, "--run-dir", str(tmp_path / "again"), "--steps", "2", "--batch-size", "8"]
    assert train.main([*run, *network, "--init", str(distilled[1])]) == 0
    assert load_denoiser(tmp_path / "again" / "weights.pt").config == SMALL


def test_a_head_that_is_missing_is_said_to_be(distilled, capsys):
    before, after = map(load_denoiser, distilled)
    by_head = SampleOptions(guidance_head=True)
    assert usable_options(after, by_head) == by_head and not capsys.readouterr().err
    assert not usable_options(after, replace(by_head, guidance_scale=1.0)).guidance_head and not capsys.readouterr().err
    assert not usable_options(before, by_head).guidance_head and "no head" in capsys.readouterr().err


def test_a_sweep_can_measure_by_the_head(distilled, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "measure", lambda sampled, reference: {"seconds": len(list(sampled))})
    monkeypatch.setattr(sweep, "read_reference", lambda arguments: (None, "none"))
    monkeypatch.setattr(sweep, "real_row", lambda images: {"weights": "real"})
    monkeypatch.setattr(sweep.Measurements, "has", lambda self, row: row["weights"] == "real")
    how = ["--count", "2", "--num-steps", "4", "--spacing", "1", "--guidance-interval", "0", "999", "--reference", "x"]
    how += ["--guidance-every", "1"]
    assert sweep.main(["--weights", str(distilled[1]), "--out", str(tmp_path / "s.csv"), *how, "--guidance-head"]) == 0
    [row] = pd.read_csv(tmp_path / "s.csv").to_dict("records")
    assert row["guidance_head"] and row["passes"] == 6 and row["seconds"] == 2  # 999 and 749 are outside 200-600


def test_what_cannot_be_distilled_is_refused(distilled, tmp_path, capsys, data):
    run = [*data, "--run-dir", tmp_path / "again"]
    for dropout, labelled in ((0.0, True), (1.0, True), (0.1, False)):
        save_weights(tmp_path / "w.pt", UNet(SMALL), SMALL, train={"label_dropout": dropout}, labelled=labelled)
        assert_refused(distill.main, [tmp_path / "w.pt", *run], capsys, "all labels or none")
    assert_refused(distill.main, [distilled[0], *run, "--interval", "200"], capsys, "give two timesteps")
    assert_refused(distill.main, [distilled[0], *run, "--interval", "0", "1000"], capsys, "0 to 999")
    assert_refused(train.main, [*run, "--head-interval", "0", "9"], capsys, "p1_cond_ddpm.distill")
    assert not (tmp_path / "again").exists()
