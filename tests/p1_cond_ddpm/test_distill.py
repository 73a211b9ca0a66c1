from dataclasses import replace

import pytest
import torch

from common.checkpoint import load_weights, save_weights
from common.diffusion import NoiseSchedule
from p1_cond_ddpm import distill, join, train
from p1_cond_ddpm.guidance import guided
from p1_cond_ddpm.sampling import SampleOptions, load_denoiser, sample_digits
from p1_cond_ddpm.unet import UNet
from tests.helpers import FAST, SMALL, randomised

NARROW = replace(SMALL, widths=tuple(width + 16 for width in SMALL.widths))
SCHEDULE = NoiseSchedule.cosine()


def with_guide():
    model = randomised(UNet(replace(SMALL, guide_widths=NARROW.widths)))
    return model.requires_grad_(False)


@pytest.fixture
def data(digit_folder):
    return ["--data", str(digit_folder())]


@pytest.fixture
def distilled(tmp_path, data):
    """A network with a guide, and what two steps of distillation make of it."""
    teacher = with_guide()
    save_weights(tmp_path / "guided.pt", teacher, teacher.config, train={"label_dropout": 0.1}, labelled=True)
    run = [*data, "--run-dir", str(tmp_path / "run"), "--steps", "2", "--batch-size", "8"]
    assert distill.main([str(tmp_path / "guided.pt"), *run, *FAST]) == 0
    return tmp_path / "guided.pt", tmp_path / "run" / "weights.pt"


@pytest.mark.parametrize("wrong, expected", [(None, 0.0), ("v", 1.0), ("label", 4.0), ("guide", 4.0)])
def test_the_loss_is_zero_for_true_v_and_the_teachers_differences(wrong, expected):
    teacher, x_0 = with_guide(), torch.rand(8, 3, 28, 28) * 2 - 1
    off_by_one = {"v": 0, "label": 1, "guide": 2}

    def network(x_t, t, labels, guidance):
        signal, sigma = SCHEDULE.signal_and_noise(t, x_t)
        v = (signal * x_t - x_0) / sigma
        teachers, null = teacher(x_t, t, labels), torch.full_like(labels, 10)
        parts = [v, teachers - teacher(x_t, t, null), teachers - teacher.guide(x_t, t, labels)]
        if wrong:
            parts[off_by_one[wrong]] = parts[off_by_one[wrong]] + 1
        return torch.cat(parts, dim=1)

    labels, how = torch.arange(8), {"label_dropout": 0.5, "head_weight": 8.0}  # times the mean of 1 - abar, 0.5
    loss, parts = distill.distillation_loss(network, teacher, SCHEDULE, x_0, labels, **how)
    assert loss == pytest.approx(expected, abs=0.5 if wrong else 1e-3) and len(parts) == 3


def test_labels_are_hidden_at_the_given_rate():
    teacher, seen = with_guide(), []

    def network(x_t, t, labels, guidance):
        seen.append(labels)
        return torch.zeros(len(x_t), 9, 28, 28)

    how = {"label_dropout": 0.25, "head_weight": 1.0}
    distill.distillation_loss(network, teacher, SCHEDULE, torch.zeros(400, 3, 28, 28), torch.full((400,), 3), **how)
    assert set(seen[0].tolist()) == {3, 10} and (seen[0] == 10).float().mean() == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("labels", [[3, 4], [3, 10], [10, 10]])
@pytest.mark.parametrize("t", [100, 250, 450, 850])
def test_a_head_that_knows_the_differences_guides_as_two_networks_do(labels, t):
    model = with_guide()

    def headed(x_t, t, labels, guidance=False):
        v, null = model(x_t, t, labels), torch.full_like(labels, 10)
        return torch.cat([v, v - model(x_t, t, null), v - model.guide(x_t, t, labels)], dim=1) if guidance else v

    x, t, labels = torch.randn(2, 3, 28, 28), torch.tensor([t, t]), torch.tensor(labels)
    how = {"scale": 3.0, "null_label": 10, "interval": (200, 500), "chroma": 0.3}
    how |= {"guide_scale": 2.5, "guide_interval": (400, 800)}
    explicit = guided(model, labels, guide=model.guide, **how)(x, t)
    assert torch.allclose(guided(headed, labels, head=True, **how)(x, t), explicit, atol=1e-5)


def test_distillation_adds_a_head_and_leaves_the_guide_out(distilled):
    teacher, student = map(load_denoiser, distilled)
    assert student.config == replace(SMALL, guidance_head=True) and student.guide is None
    metadata = load_weights(distilled[1]).metadata
    assert metadata["train"] == {"label_dropout": 0.1} and metadata["distilled"]["fit"]["steps"] == 2
    moved = [
        float((student.state_dict()[key] - value).abs().max())
        for key, value in teacher.state_dict().items()
        if not key.startswith("guide.")
    ]
    assert 0 < max(moved) < 0.1 and float(student.head.output.weight.abs().max()) > 0


def test_a_head_takes_one_pass_a_step(distilled):
    student, rows = load_denoiser(distilled[1]), []
    student.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    options = SampleOptions(num_steps=4, detail_steps=0, precision="float32")
    images = sample_digits(student, [3, 4], [0, 1], options)
    assert rows == [2] * 4
    assert not torch.equal(images, sample_digits(student, [3, 4], [0, 1], replace(options, guidance_scale=1.0)))
    assert not torch.equal(images, sample_digits(student, [3, 4], [0, 1], replace(options, autoguidance=1.0)))


def test_a_new_guide_or_a_training_starts_without_the_head(distilled, tmp_path, data):
    guide = UNet(NARROW)
    save_weights(tmp_path / "guide.pt", guide, NARROW)
    assert join.main([str(distilled[1]), str(tmp_path / "guide.pt"), str(tmp_path / "joined.pt")]) == 0
    assert load_denoiser(tmp_path / "joined.pt").config == replace(SMALL, guide_widths=NARROW.widths)
    network = ["--widths", "16", "32", "--blocks", "1", "--middle-blocks", "1", "--embedding", "32"]
    run = [*data, "--run-dir", str(tmp_path / "again"), "--steps", "2", "--batch-size", "8"]
    assert train.main([*run, *network, "--init", str(distilled[1])]) == 0
    assert load_denoiser(tmp_path / "again" / "weights.pt").config == SMALL


def test_what_cannot_be_distilled_is_refused(distilled, tmp_path, capsys, data):
    run = [*data, "--run-dir", str(tmp_path / "again")]
    assert distill.main([str(distilled[1]), *run]) == 2
    assert "has no guide" in capsys.readouterr().err and not (tmp_path / "again").exists()
    assert train.main([*run, "--guidance-head"]) == 2
    assert "p1_cond_ddpm.distill" in capsys.readouterr().err and not (tmp_path / "again").exists()
