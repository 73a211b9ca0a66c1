import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights
from p1_cond_ddpm import process
from p1_cond_ddpm.sampling import SampleOptions, sample_digits
from p1_cond_ddpm.unet import UNet
from tests.helpers import SMALL, randomised


def test_instants_are_equal_parts():
    assert process.instants(1000, 5) == [1000, 800, 600, 400, 200, 0]
    assert process.instants(830, 7) == [830, 711, 593, 474, 356, 237, 119, 0]


@pytest.mark.parametrize("sampler, steps", [("ddim", 10), ("ddpm", 7), ("dpm", 8)])
def test_the_process_starts_from_noise_and_ends_at_the_sample(sampler, steps):
    model, labels = randomised(UNet(SMALL)), torch.tensor([3, 7])
    options = SampleOptions(sampler=sampler, num_steps=steps, precision="float32")
    pictures, timesteps = process.reverse_process(model, labels, [5, 6], options, parts=7)
    assert pictures.shape == (2, 8, 3, 28, 28)
    assert timesteps[0] == 1000 and timesteps[-1] == 0
    assert set(timesteps[1:-1]) <= {t + 1 for t in options.timesteps(1000)}
    assert torch.equal(pictures[:, -1], sample_digits(model, labels, [5, 6], options))
    others, _ = process.reverse_process(model, labels.flip(0), [5, 6], options, parts=7)
    assert torch.equal(others[:, 0], pictures[:, 0]) and not torch.equal(others[:, 3], pictures[:, 3])


def test_a_picture_of_eight_rows_and_instants(tmp_path):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    fixed = ["--weights", str(tmp_path / "w.pt"), "--labels", "none", "--num-steps", "7"]
    assert process.main([str(tmp_path / "p.png"), *fixed]) == 0
    assert Image.open(tmp_path / "p.png").size == (5 * 242, 5 * 242 + 30)
