import pytest
import torch

from p1_cond_ddpm.guidance import guided


class Model:
    """v = x_t times the label; counts the rows of every pass."""

    def __init__(self, bias=0):
        self.rows, self.bias = [], bias

    def __call__(self, x, t, labels):
        self.rows.append(len(x))
        return x * (labels[:, None, None, None] + self.bias)


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


@pytest.mark.parametrize("t, expected", [(100, 4.0), (300, 22.0), (500, 16.0), (700, -2.0)])
def test_a_guide_pushes_away_from_what_it_predicts(t, expected):
    model = lambda x, t, labels: 4.0 - (labels == 10).float()[:, None, None, None]
    guide = lambda x, t, labels: 7.0 + 0 * labels[:, None, None, None]
    how = {"scale": 19.0, "null_label": 10, "interval": (200, 600), "guide": guide, "guide_scale": 3.0}
    v = guided(model, torch.tensor([2]), **how, guide_interval=(400, 800))(torch.zeros(1, 1, 1, 1), torch.tensor([t]))
    assert v == expected  # 4, by the label + 18 in 200-600, by the guide - 6 in 400-800


def test_a_guide_works_without_labels_and_is_not_asked_where_it_is_off():
    guide, labels, t = Model(), torch.tensor([10, 10]), torch.tensor([300, 300])
    model, x = (lambda x, t, labels: 3.0 * x), torch.ones(2, 1, 1, 1)
    v = guided(model, labels, scale=2.0, null_label=10, guide=guide, guide_scale=2.0)(x, t)
    assert guide.rows == [2] and (v == 3.0 + (3.0 - 10.0)).all()
    for how in ({"guide_scale": 1.0}, {"guide_scale": 2.0, "guide_interval": (301, 999)}):
        assert (guided(model, labels, scale=2.0, null_label=10, guide=guide, **how)(x, t) == 3.0).all()
    assert guide.rows == [2]


def test_chroma_scales_what_guidance_does_to_colours_alone():
    labels, t, x = torch.tensor([2, 4]), torch.tensor([300, 300]), torch.randn(2, 3, 4, 4)
    colour = torch.tensor([1.0, -2.0, 4.0])[:, None, None]  # mean 1
    model = lambda x, t, labels: x + (labels == 10)[:, None, None, None] * colour
    guide = lambda x, t, labels: x - colour
    plain, less = (
        guided(model, labels, scale=3.0, null_label=10, guide=guide, guide_scale=6.0, chroma=chroma)(x, t) - x
        for chroma in (1.0, 0.5)
    )
    assert torch.allclose(plain, (3.0 * colour).expand_as(x), atol=1e-5)  # 2 (0 - colour) + 5 (0 + colour)
    assert torch.allclose(less, (3.0 + 1.5 * (colour - 1)).expand_as(x), atol=1e-5)


def test_differences_are_computed_at_every_nth_call_in_their_interval_and_kept_in_between():
    model, guide = Model(), Model(bias=1)
    how = {"scale": 2.0, "null_label": 10, "interval": (200, 600), "guide": guide, "guide_scale": 3.0}
    denoise = guided(model, torch.tensor([3]), **how, guide_interval=(400, 999), every=2)
    xs, ts = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (700, 600, 500, 400, 300, 200)
    found = [denoise(torch.full((1, 1, 1, 1), x), torch.tensor([t])).item() for x, t in zip(xs, ts)]
    by_label = [0, -14, -14, -28, -28, -42]  # 3 x - 10 x, of the calls at 600, 400 and 200
    by_guide = [-2, -2, -2 * 3, -2 * 3, 0, 0]  # 2 (3 x - 4 x), of those at 700 and 500
    assert found == [3 * x + a + b for x, a, b in zip(xs, by_label, by_guide)]
    assert model.rows == [1, 2, 1, 2, 1, 2] and guide.rows == [1, 1]
