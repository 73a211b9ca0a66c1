import re
import sys

import numpy as np
import pytest

from common import fid, inception
from common.cli import UserError


class Colours:
    """Stands in for Inception: the means and deviations of three colours."""

    def __call__(self, images):
        scaled = images.astype(np.float32) / 255
        return np.concatenate([scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2))], axis=1)


@pytest.fixture
def stand_in(monkeypatch):
    calls = []

    def network(dims=None):
        calls.append(dims)
        return inception.Network("colours", 6, Colours())

    monkeypatch.setattr(inception, "find_network", network)
    monkeypatch.setattr(fid, "find_network", network)
    return calls


def test_distance_of_two_gaussians_is_its_closed_form():
    """Dowson & Landau 1982; for commuting covariances |m1 - m2|^2 + sum (sqrt(v1) - sqrt(v2))^2."""
    random = np.random.RandomState(0)
    white = random.randn(500, 6)
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    m1, m2, v1, v2 = random.rand(4, 6)
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(v1) - np.sqrt(v2)) ** 2).sum()
    assert fid.frechet_distance(white * np.sqrt(v1) + m1, white * np.sqrt(v2) + m2) == pytest.approx(expected)


def test_distance_is_that_of_a_matrix_root_where_covariances_do_not_commute(real_data, monkeypatch):
    monkeypatch.setenv("HW2_REAL_DATA", str(real_data))
    random = np.random.RandomState(1)
    a, b = random.randn(300, 5) @ random.randn(5, 5), random.randn(200, 5) @ random.randn(5, 5) + 1
    moments = [(f.mean(0), np.cov(f, rowvar=False)) for f in (a, b)]
    assert fid.frechet_distance(a, b) == pytest.approx(inception.fid768().frechet(*moments[0], *moments[1]))
    assert fid.frechet_distance(a, b) == pytest.approx(fid.frechet_distance(b, a))


def test_features_are_kept_for_the_same_images(stand_in, tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (45, 28, 28, 3), dtype=np.uint8)
    found = inception.features(images, tmp_path)
    (stored,) = tmp_path.iterdir()
    assert np.array_equal(found, Colours()(images))  # three batches, in order
    np.savez(stored, features=found + 1)
    assert np.array_equal(inception.features(images, tmp_path), found + 1)
    assert np.array_equal(inception.features(images[:44], tmp_path), found[:44])
    assert np.allclose(inception.features(images.reshape(45, 56, 14, 3), tmp_path), found, atol=1e-6)
    assert np.array_equal(inception.features(images), found) and len([*tmp_path.iterdir()]) == 3


def test_a_missing_network_is_said_before_other_images_are_drawn(stand_in, tmp_path, monkeypatch):
    images = np.zeros((3, 28, 28, 3), dtype=np.uint8)
    inception.features(images, tmp_path)
    monkeypatch.setattr(inception, "find_network", inception.packaged_network)
    monkeypatch.setitem(sys.modules, "pytorch_fid.inception", None)
    with pytest.raises(UserError, match="no 768 features"):
        inception.features(images, tmp_path)


def test_features_of_many_images_go_on_where_they_stopped(tmp_path, monkeypatch):
    images, calls = np.random.RandomState(0).randint(0, 256, (50, 4, 4, 3), dtype=np.uint8), []

    def stops_once(some):
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Colours()(some)

    network = inception.Network("colours", 6, stops_once)
    monkeypatch.setattr(inception, "KEPT", 20)
    with pytest.raises(KeyboardInterrupt):
        inception.features(images, tmp_path, network)
    assert np.array_equal(inception.features(images, tmp_path, network), Colours()(images))
    assert calls == [20, 20, 10, 10]


def test_damaged_features_are_computed_again(stand_in, tmp_path, capsys):
    images = np.random.RandomState(0).randint(0, 256, (900, 2, 2, 3), dtype=np.uint8)
    found = inception.features(images, tmp_path)
    (stored,) = tmp_path.iterdir()
    whole = stored.read_bytes()
    for place in (whole.index(b"(900, 6)") + 1, whole.index(found.tobytes())):  # 800 of them
        stored.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert np.array_equal(inception.features(images, tmp_path), found)
        assert f"{stored}: damaged" in capsys.readouterr().err and stored.read_bytes() == whole


def test_quality_is_of_the_images_against_the_reference(stand_in, tmp_path, capsys):
    random = np.random.RandomState(0)
    images, real = (random.randint(low, 256, (60, 28, 28, 3), dtype=np.uint8) for low in (0, 40))
    reference = Colours()(real)
    found, ours = fid.quality(images, reference, tmp_path), Colours()(images)
    assert len([*tmp_path.iterdir()]) == 1
    assert found["fid768"] == fid.frechet_distance(ours, reference) > 0
    assert (found["density"], found["coverage"]) == fid.density_and_coverage(ours, reference)
    assert "warning" not in capsys.readouterr().err
    for some, theirs in ((images[:6], reference), (images, reference[:6])):
        fid.quality(some, theirs)
        assert "6 images for 6 features: their covariance is rank-deficient" in capsys.readouterr().err


def test_distance_of_a_set_to_itself_is_zero_and_grows_with_what_is_moved():
    features = np.random.RandomState(2).randn(100, 8)
    assert fid.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert fid.frechet_distance(features, features + 2) == pytest.approx(8 * 4)
    assert fid.frechet_distance(features, 3 * (features - features.mean(0)) + features.mean(0)) == pytest.approx(
        4 * np.trace(np.cov(features, rowvar=False))
    )


def test_density_counts_spheres_by_their_definition():
    """Naeem et al. 2020, equations 3 and 4, spelled out."""
    random = np.random.RandomState(3)
    real, ours = random.randn(30, 3).astype(np.float32), random.randn(20, 3).astype(np.float32)
    between = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = np.sort(between, axis=1)[:, 2]  # itself, the nearest, the second nearest
    near = np.linalg.norm(real[:, None] - ours[None], axis=2) < radii[:, None]
    density, coverage = fid.density_and_coverage(ours, real, neighbours=2)
    assert density == pytest.approx(near.sum() / (2 * 20)) and coverage == pytest.approx(near.any(axis=1).mean())


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


def test_two_sets_are_compared_on_the_command_line(stand_in, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=np.random.RandomState(0).randint(0, 256, (14, 28, 28, 3), dtype=np.uint8))
    a = str(tmp_path / "a.npz")
    assert fid.main([f"{a}:0:7", f"{a}:7:14", "--cache", str(tmp_path / "kept")]) == 0
    line, err = capsys.readouterr()
    assert line.startswith("FID-6 ") and "N = 7 against 7\nreal against real: too few" in line
    assert "warning" not in err
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert fid.main([f"{a}:0:7", f"{a}:7:14", "--size", "14"]) == 0 and capsys.readouterr().out != line
    assert fid.main([f"{a}:0:7", f"{a}:7:14", "--size", "7"]) == 2 and "--size 7" in capsys.readouterr().err
    assert fid.read_set(f"{a}:3:5", None).shape == (2, 28, 28, 3) and fid.read_set(a, 8).shape == (14, 8, 8, 3)
    assert np.array_equal(fid.read_set(f"{a}:3:5", None), fid.read_set(a, None)[3:5])
    for bad, words in ((f"{a}:7:15", "a part that is there"), (str(tmp_path / "no"), "no such")):
        assert fid.main([bad, a]) == 2
        assert words in capsys.readouterr().err


def test_real_sets_of_the_same_size_stand_beside(stand_in, tmp_path, capsys):
    pictures = np.random.RandomState(0).randint(0, 256, (40, 28, 28, 3), dtype=np.uint8)
    pictures[:6] //= 2
    np.savez(tmp_path / "a.npz", images=pictures)
    a = str(tmp_path / "a.npz")
    assert fid.main([f"{a}:0:6", f"{a}:6:40"]) == 0
    out, err = capsys.readouterr()
    ours, real, source = out.splitlines()
    assert "N = 6 against 34" in ours and real.startswith("real against real: FID-6 ") and "N = 6 against 6" in real
    fids, kids = (
        [float(re.search(f"{name} ([-.\\d]+)", line)[1]) for line in (ours, real)] for name in ("FID-6", "KID")
    )
    assert fids[0] > fids[1] and kids[0] > kids[1] and source == "features: colours"
    assert "6 images for 6 features" in err and "KID" in err
    assert "(rank-deficient), KID" in ours and "(rank-deficient), KID" in real


def test_a_pair_of_real_sets_is_drawn_from_what_there_is():
    real = np.random.RandomState(0).randn(13, 3).astype(np.float32)
    assert fid.real_pair(real, 100).endswith("N = 6 against 6") and fid.real_pair(real, 100) == fid.real_pair(real, 6)
    assert fid.real_pair(real[:11], 6) == fid.real_pair(real, 5) == "too few real images"


def test_an_estimate_is_called_rank_deficient_where_one_set_is_too_small():
    real = np.random.RandomState(0).randn(14, 7).astype(np.float32)
    assert "rank" not in fid.measured(real[:8], real)
    for ours, theirs in ((real[:7], real), (real, real[:7])):
        assert "(rank-deficient), KID" in fid.measured(ours, theirs)
    assert "(rank-deficient)" in fid.real_pair(real, 14)  # of seven and seven


def test_moments_of_many_large_features_are_exact():
    features = (1000 + np.random.RandomState(0).rand(100_000, 1)).astype(np.float32)
    mean, _ = fid.moments(features)
    assert mean == pytest.approx(features.astype(np.float64).mean(0), rel=1e-12)


def test_a_reference_of_moments_gives_the_same_distance(stand_in, tmp_path, capsys):
    pictures = np.random.RandomState(0).randint(0, 256, (20, 28, 28, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pictures)
    mu, sigma = fid.moments(Colours()(pictures[8:]))
    np.savez(tmp_path / "moments.npz", mu=mu, sigma=sigma)
    a = str(tmp_path / "a.npz")
    assert fid.main([f"{a}:0:8", f"{a}:8:20"]) == 0
    from_pictures = capsys.readouterr().out.split(",")[0]
    assert fid.main([f"{a}:0:8", str(tmp_path / "moments.npz")]) == 0
    assert capsys.readouterr().out.split(",")[0] == from_pictures and stand_in == [None, 6]
    np.savez(tmp_path / "moments.npz", mu=mu[:3], sigma=sigma[:3, :3])
    assert fid.main([f"{a}:0:8", str(tmp_path / "moments.npz")]) == 2 and "of 3 features" in capsys.readouterr().err


def test_kernel_distance_is_unbiased_and_as_defined():
    random = np.random.RandomState(0)
    a, b = random.randn(5, 3).astype(np.float32), random.randn(4, 3).astype(np.float32) + 1

    def kernel(x, y):
        return (float(x.astype(np.float64) @ y) / 3 + 1) ** 3

    within = [np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert fid.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between)
    small = [fid.kernel_distance(*random.randn(2, 6, 3).astype(np.float32)) for _ in range(400)]
    assert np.mean(small) == pytest.approx(0, abs=3 * np.std(small) / 20) and min(small) < 0


def test_density_and_coverage_are_those_of_prdc():
    prdc = pytest.importorskip("prdc", reason="pip install prdc")
    random = np.random.RandomState(0)
    real, ours = random.randn(1500, 8).astype(np.float32), 0.9 * random.randn(300, 8).astype(np.float32)
    theirs = prdc.compute_prdc(real, ours, nearest_k=5)
    density, coverage = fid.density_and_coverage(ours, real)
    assert density == pytest.approx(theirs["density"], rel=1e-3)
    assert coverage == pytest.approx(theirs["coverage"], abs=1e-3)
