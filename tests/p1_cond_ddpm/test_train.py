import pytest
import torch

from common.diffusion import NoiseSchedule
from p1_cond_ddpm.train import v_loss

SCHEDULE = NoiseSchedule.cosine()


def test_the_true_v_has_no_loss_and_zero_has_vs_mean_square():
    x_0 = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(256, dtype=torch.int64)

    def perfect(x_t, t, labels):
        signal, sigma = SCHEDULE.signal_and_noise(t, x_t)
        noise = (x_t - signal * x_0) / sigma
        return signal * noise - sigma * x_0

    options = {"label_dropout": 0.0, "null_label": 10}
    assert v_loss(perfect, SCHEDULE, x_0, labels, **options) < 1e-4
    assert v_loss(lambda x, t, y: torch.zeros_like(x), SCHEDULE, x_0, labels, **options) == pytest.approx(1.0, abs=0.05)


def test_labels_are_dropped_at_the_given_rate():
    seen = []

    def model(x, t, labels):
        seen.append(labels)
        return x

    torch.manual_seed(0)
    labels = torch.full((4000,), 3)
    v_loss(model, SCHEDULE, torch.zeros(4000, 1, 1, 1), labels, label_dropout=0.1, null_label=10)
    assert set(seen[0].tolist()) == {3, 10} and (seen[0] == 10).float().mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("loss", ["noise", "min_snr"])
def test_a_loss_is_the_squared_error_of_what_it_names(loss):
    x_0 = torch.randn(256, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, expected = torch.zeros(256, dtype=torch.int64), []

    def model(x_t, t, labels):
        signal, sigma = SCHEDULE.signal_and_noise(t, x_t)
        v = torch.sin(x_t)
        if loss == "noise":
            errors = (sigma * x_t + signal * v - (x_t - signal * x_0) / sigma).square()
        else:
            errors = (signal * x_t - sigma * v - x_0).square() * (signal / sigma).square().clamp(max=5)
        expected.append(errors.mean().item())
        return v

    options = {"label_dropout": 0.0, "null_label": 10, "loss": loss}
    assert v_loss(model, SCHEDULE, x_0, labels, **options).item() == pytest.approx(expected[0], rel=1e-4)


@pytest.mark.parametrize(
    "x_0, off, expected", [(-1.0, -0.5, 0.0), (1.0, 0.5, 0.0), (-1.0, 0.5, 0.25), (0.9, 0.5, 0.01)]
)
def test_an_estimate_beyond_black_or_white_has_no_clipped_loss(x_0, off, expected):
    images, weights = torch.full((64, 1, 2, 2), x_0, dtype=torch.float64), []

    def model(x_t, t, labels):
        signal, sigma = SCHEDULE.signal_and_noise(t, x_t)
        weights.append(1 / sigma.square())
        return (signal * x_t - (x_0 + off)) / sigma

    options = {"label_dropout": 0.0, "null_label": 10, "loss": "clipped"}
    loss = v_loss(model, SCHEDULE, images, torch.zeros(64, dtype=torch.int64), **options)
    assert loss.item() == pytest.approx(expected * weights[0].mean().item(), rel=1e-3, abs=1e-6)
