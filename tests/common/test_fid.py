import numpy as np
import pytest

from common import fid
from common.cli import UserError


def test_distance_of_two_gaussians_is_its_closed_form(real_data, monkeypatch):
    """Dowson & Landau 1982; for commuting covariances |m1 - m2|^2 + sum (sqrt(v1) - sqrt(v2))^2."""
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    random = np.random.RandomState(0)
    white = random.randn(500, 6)
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    m1, m2, v1, v2 = random.rand(4, 6)
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
    assert fid.frechet_distance(white * np.sqrt(v1) + m1, white * np.sqrt(v2) + m2) == pytest.approx(expected)


def test_features_are_kept_for_the_same_images(real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    images = np.random.RandomState(0).randint(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    found = fid.features(images, tmp_path)
    (stored,) = tmp_path.iterdir()
    np.save(stored, found + 1)
    assert found.shape == (3, 768) and np.array_equal(fid.features(images, tmp_path), found + 1)
    assert np.allclose(fid.features(images[:2], tmp_path), found[:2], atol=1e-4)


def test_density_and_coverage_see_missing_and_crowded_modes():
    random = np.random.RandomState(0)
    real = np.concatenate([random.randn(400, 4), 50 + random.randn(400, 4)]).astype(np.float32)
    same = np.concatenate([random.randn(400, 4), 50 + random.randn(400, 4)]).astype(np.float32)
    density, coverage = fid.density_and_coverage(same, real)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(1 - 2**-5, abs=0.03)
    one_mode, crowded = random.randn(800, 4).astype(np.float32), np.zeros((800, 4), np.float32)
    assert fid.density_and_coverage(one_mode, real)[1] == pytest.approx(0.5, abs=0.02)
    assert fid.density_and_coverage(crowded, real)[0] > 1.5 and fid.density_and_coverage(crowded, real)[1] < 0.1
    assert fid.density_and_coverage(real + 20, real) == (0, 0)


def test_too_few_real_images_are_reported():
    with pytest.raises(UserError, match="more than 5 real"):
        fid.density_and_coverage(np.zeros((9, 4), np.float32), np.zeros((5, 4), np.float32))


def test_two_sets_are_compared_on_the_command_line(real_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    np.savez(tmp_path / "a.npz", images=np.random.RandomState(0).randint(0, 256, (14, 28, 28, 3), dtype=np.uint8))
    a = str(tmp_path / "a.npz")
    assert fid.main([f"{a}:0:7", f"{a}:7:14", "--cache", str(tmp_path / "kept")]) == 0
    assert "7 images against 7: FID-768" in capsys.readouterr().out and len(list((tmp_path / "kept").iterdir())) == 2
    for bad, words in ((f"{a}:7:15", "a part that is there"), (str(tmp_path / "no"), "no such")):
        assert fid.main([bad, a]) == 2
        assert words in capsys.readouterr().err


def test_without_the_features_the_user_hears_where_they_belong(monkeypatch):
    monkeypatch.delenv("HW2_REAL_DATA", raising=False)
    with pytest.raises(UserError, match="eval/fid768.py"):
        fid.fid768()
