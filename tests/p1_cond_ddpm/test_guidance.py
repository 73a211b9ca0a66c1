import pytest
import torch

from p1_cond_ddpm.guidance import guided


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
