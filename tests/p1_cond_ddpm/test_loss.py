import pytest
import torch

from common.diffusion import NoiseSchedule
from p1_cond_ddpm.loss import guided, v_loss

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


class Model:
    """v = x_t times the label; counts the rows of every pass."""

    def __init__(self):
        self.rows = []

    def __call__(self, x, t, labels):
        self.rows.append(len(x))
        return x * labels[:, None, None, None]


@pytest.mark.parametrize("t, rows", [(99, 1), (100, 2), (500, 2), (501, 1)])
def test_guidance_is_off_outside_its_interval(t, rows):
    model = Model()
    t, x = torch.tensor([t]), torch.ones(1, 1, 1, 1)
    v = guided(model, torch.tensor([2]), scale=3.0, null_label=10, interval=(100, 500))(x, t)
    assert model.rows == [rows] and v == (2.0 if rows == 1 else 10.0 + 3 * (2 - 10))


@pytest.mark.parametrize("labels, rows", [([10, 10], 2), ([10, 3], 4)])
def test_guidance_is_off_where_nothing_is_labelled(labels, rows):
    model, x, t = Model(), torch.ones(2, 1, 1, 1), torch.tensor([300, 300])
    v = guided(model, torch.tensor(labels), scale=3.0, null_label=10)(x, t)
    assert model.rows == [rows] and v[0] == 10.0


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.5])
def test_guidance_extrapolates_from_unconditional_to_conditional(scale):
    model = lambda x, t, labels: labels[:, None, None, None].float() * torch.ones_like(x)
    labels, t, x = torch.tensor([2, 4]), torch.tensor([300, 300]), torch.randn(2, 3, 4, 4)
    v = guided(model, labels, scale=scale, null_label=10)(x, t)
    conditional, unconditional = labels[:, None, None, None].float(), 10.0
    assert torch.allclose(v, (unconditional + scale * (conditional - unconditional)).expand_as(x))
