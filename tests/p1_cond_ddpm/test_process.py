import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights
from common.images import to_uint8
from p1_cond_ddpm import process, sampling
from p1_cond_ddpm.sampling import SampleOptions, sample_digits
from p1_cond_ddpm.unet import UNet
from tests.helpers import SMALL, randomised


def test_instants_are_equal_parts():
    assert process.instants(1000, 5) == [1000, 800, 600, 400, 200, 0]
    assert process.instants(830, 7) == [830, 711, 593, 474, 356, 237, 119, 0]


@pytest.mark.parametrize("sampler, steps", [("ddim", 10), ("ddpm", 7), ("dpm", 8)])
def test_the_process_starts_from_noise_and_ends_at_the_sample(sampler, steps):
    model, labels = randomised(UNet(SMALL)), torch.tensor([3, 7])
    options = SampleOptions(sampler, steps, spacing=1.0, precision="float32")
    timesteps, pictures, estimates = process.reverse_process(model, labels, [5, 6], options, parts=7)
    assert pictures.shape == (2, 8, 3, 28, 28)
    assert timesteps[0] == 1000 and timesteps[-1] == 0
    assert set(timesteps[1:-1]) <= {t + 1 for t in options.timesteps(1000)}
    assert torch.equal(pictures[:, -1], sample_digits(model, labels, [5, 6], options))
    others = process.reverse_process(model, labels.flip(0), [5, 6], options, parts=7).pictures
    assert torch.equal(others[:, 0], pictures[:, 0]) and not torch.equal(others[:, 3], pictures[:, 3])
    assert estimates.shape == pictures.shape and torch.equal(estimates[:, -1], pictures[:, -1])


def test_an_estimate_is_the_networks_at_its_own_timestep():
    model, labels = randomised(UNet(SMALL)), torch.tensor([3])
    options = SampleOptions(sampler="ddim", num_steps=2, detail_steps=0, guidance_scale=1.0, precision="float32")
    found = process.reverse_process(model, labels, [5], options, parts=2)
    x_T, randn_like = sampling.starting_noise(model, [5], torch.device("cpu"))
    with torch.inference_mode():
        first = next(sampling.sampler_steps(model, labels, x_T, randn_like, options))
    assert torch.equal(found.estimates[:, 0], to_uint8(first.x_0))
    assert torch.equal(found.pictures[:, 1], to_uint8(first.x))


def test_a_picture_of_eight_rows_and_instants(tmp_path):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    fixed = ["--weights", str(tmp_path / "w.pt"), "--labels", "none", "--num-steps", "7"]
    assert process.main([str(tmp_path / "p.png"), *fixed]) == 0
    plain = Image.open(tmp_path / "p.png").size
    assert process.main([str(tmp_path / "p.png"), *fixed, "--estimates"]) == 0
    assert Image.open(tmp_path / "p.png").size[1] > 1.5 * plain[1]
