import numpy as np
import pytest

from common.cli import UserError
from common.fid import fid768, statistics


def test_distance_of_two_gaussians_is_its_closed_form(real_data, monkeypatch):
    """Dowson & Landau 1982; for commuting covariances |m1 - m2|^2 + sum (sqrt(v1) - sqrt(v2))^2."""
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    random = np.random.RandomState(0)
    m1, m2, v1, v2 = random.rand(4, 6)
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
    assert fid768().frechet(m1, np.diag(v1), m2, np.diag(v2)) == pytest.approx(expected)


def test_statistics_are_kept_for_the_same_images(real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    images = np.random.RandomState(0).randint(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    mu, sigma = statistics(images, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as content:
        np.savez(tmp_path / "s.npz", **{**content, "mu": mu + 1})
    again = statistics(images, tmp_path / "s.npz")
    assert mu.shape == (768,) and np.array_equal(mu + 1, again[0]) and np.array_equal(sigma, again[1])
    others = statistics(images[:2], tmp_path / "s.npz")
    assert np.abs(others[0] - mu).max() < 1 and not np.array_equal(others[0], mu)


def test_without_the_features_the_user_hears_where_they_belong(monkeypatch):
    monkeypatch.delenv("HW2_REAL_DATA", raising=False)
    with pytest.raises(UserError, match="eval/fid768.py"):
        fid768()
