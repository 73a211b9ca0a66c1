import numpy as np
import pytest
import torch

from common.images import write_png
from p1_cond_ddpm import spectrum
from p1_cond_ddpm.sampling import SampleOptions

EVEN = {"spacing": 1.0, "guidance_scale": 1.0, "precision": "float32"}


@pytest.fixture
def gaussian():
    """A mean colour, and powers that fall with frequency, so small that no sample reaches black or white."""
    frequency = torch.hypot(torch.fft.fftfreq(28)[:, None], torch.fft.fftfreq(28)[None])
    return torch.full((3, 28, 28), 0.1), (0.02 / (1 + 100 * frequency**2)).expand(3, 28, 28)


@pytest.mark.parametrize("sampler", ["sde", "dpm"])
def test_many_steps_keep_all_frequencies(gaussian, sampler):
    kept = spectrum.kept_by_sampler(*gaussian, SampleOptions(sampler, 60, detail_steps=6, **EVEN), 300)
    assert (kept - 1).abs().max() < 0.12


def test_few_steps_lose_what_is_fine_and_detail_steps_bring_it_back(gaussian):
    few, more = (
        spectrum.kept_by_sampler(*gaussian, SampleOptions("sde", 10, detail_steps=steps, **EVEN), 200)
        for steps in (0, 4)
    )
    assert few[-1] < 0.3 and more[-1] > 0.7
    assert few.diff().max() < 0  # the finer, the more is lost


def test_pictures_are_compared_with_the_data(tmp_path, capsys):
    noise = np.random.default_rng(0)
    for name, contrast in (("data", 40), ("half", 20)):
        (tmp_path / name).mkdir()
        for i in range(40):
            pixels = (128 + contrast * noise.standard_normal((3, 28, 28))).clip(0, 255).astype(np.uint8)
            write_png(tmp_path / name / f"{i}.png", torch.from_numpy(pixels))
    for name, expected in (("data", 1.0), ("half", 0.5)):
        assert spectrum.main([str(tmp_path / "data"), "--images", str(tmp_path / name)]) == 0
        shares = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
        assert len(shares) == len(spectrum.EDGES) - 1
        assert np.mean(shares) == pytest.approx(expected, abs=0.05)


def test_pictures_of_another_size_are_one_line(tmp_path, capsys):
    for name, size in (("data", 28), ("larger", 32)):
        (tmp_path / name).mkdir()
        for i in range(2):
            write_png(tmp_path / name / f"{i}.png", torch.full((3, size, size), 100 * i, dtype=torch.uint8))
    assert spectrum.main([str(tmp_path / "data"), "--images", str(tmp_path / "larger")]) == 2
    assert "larger: pictures of 32×32; give 28×28, like the data" in capsys.readouterr().err
