import pytest
import torch

from p1_cond_ddpm import scores, strokes


@pytest.fixture
def reference(monkeypatch):
    """Of nine images of each digit, number n all of grey level n, in an order that mixes the digits."""
    for module in (scores, strokes):
        monkeypatch.setattr(module, "REFERENCE", 2)
    monkeypatch.setattr(scores, "features", lambda images, cache: images)
    labels = torch.arange(10).repeat(9)
    images = torch.arange(90, dtype=torch.uint8)[:, None, None, None].expand(90, 3, 28, 28).contiguous()
    return scores.Reference(images, labels, cache=None)


def test_real_sets_are_disjoint_and_leave_out_what_shapes_are_compared_with(reference):
    sets = list(reference.real_sets(3))
    assert all(torch.equal(labels, torch.arange(10).repeat_interleave(3)) for _, labels in sets)
    greys = [images[:, 0, 0, 0] for images, _ in sets]
    assert sorted(torch.cat(greys).tolist()) == list(range(20, 80))  # 0 to 19 are compared with, 80 to 89 are too few
    assert len(list(reference.real_sets(1))) == scores.REAL_SETS
    assert not list(scores.Reference(reference.digits.images, None, cache=None).real_sets(3))


def test_real_scores_are_means_of_the_judges_answers_and_of_variety(reference, monkeypatch):
    monkeypatch.setattr(reference, "variety", lambda images, labels: {"ink": float(len(images))})
    found = reference.real_scores(3, lambda images, labels: {"own_judge": float(images[0, 0, 0, 0])})
    assert found == {"own_judge": (20 + 50) / 2, "ink": 30}
    assert reference.real_scores(8, lambda images, labels: {"own_judge": 1.0}) == {}
