from dataclasses import replace

import pytest
import torch

from common.checkpoint import load_weights, save_weights
from p1_cond_ddpm import join, sample, sampling, train
from p1_cond_ddpm.sampling import SampleOptions, load_denoiser, sample_digits
from p1_cond_ddpm.unet import UNet
from tests.helpers import SMALL, randomised

NARROW = replace(SMALL, widths=tuple(width + 16 for width in SMALL.widths))  # of another width, as a guide is


@pytest.fixture
def joined(tmp_path):
    """A network with a guide, the network alone, the guide alone."""
    paths = [tmp_path / f"{name}.pt" for name in ("joined", "alone", "guide")]
    save_weights(paths[1], randomised(UNet(SMALL)), SMALL, labelled=True)
    save_weights(paths[2], randomised(UNet(NARROW)), NARROW, fit={"steps": 7})
    assert join.main([*map(str, paths[1:]), str(paths[0])]) == 0
    return paths


def test_a_joined_file_holds_both_networks(joined):
    whole, alone, guide = map(load_denoiser, joined)
    assert whole.config == replace(SMALL, guide_widths=NARROW.widths) and whole.guide.config == NARROW
    x, t, labels = torch.randn(2, 3, 28, 28), torch.tensor([100, 900]), torch.tensor([3, 10])
    assert torch.equal(whole(x, t, labels), alone(x, t, labels))
    assert torch.equal(whole.guide(x, t, labels), guide(x, t, labels))
    assert load_weights(joined[0]).metadata == {"labelled": True, "guide": {"fit": {"steps": 7}}}


def test_a_guide_changes_images_unless_it_is_off(joined):
    whole, alone = map(load_denoiser, joined[:2])
    images = {}
    for scale in (1.0, 2.0):
        options = SampleOptions(num_steps=2, autoguidance=scale, precision="float32")
        images[scale] = [sample_digits(model, [3], [0], options) for model in (whole, alone)]
        assert sampling.usable_options(whole, options) == options
        assert sampling.usable_options(alone, options).autoguidance == 1
    assert torch.equal(*images[1.0]) and torch.equal(images[1.0][1], images[2.0][1])
    assert not torch.equal(*images[2.0])


def test_a_training_may_start_from_a_joined_file(joined, tmp_path, digit_folder):
    network = ["--widths", "16", "32", "--blocks", "1", "--middle-blocks", "1", "--embedding", "32"]
    run = ["--data", str(digit_folder()), "--run-dir", str(tmp_path / "run"), "--steps", "2", "--batch-size", "8"]
    assert train.main([*run, *network, "--init", str(joined[0])]) == 0
    assert load_denoiser(tmp_path / "run" / "weights.pt").guide is None


def test_without_a_guide_a_note_says_so(joined, tmp_path, capsys):
    command = [str(tmp_path / "out"), "--per-digit", "1", "--num-steps", "2", "--weights"]
    for weights, noted in ((joined[1], True), (joined[0], False)):
        assert sample.main([*command, str(weights)]) == 0
        assert ("has no guide" in capsys.readouterr().err) == noted


def test_a_new_guide_takes_the_old_ones_place(joined, tmp_path):
    save_weights(tmp_path / "other.pt", randomised(UNet(SMALL)), SMALL)
    assert join.main([str(joined[0]), str(tmp_path / "other.pt"), str(joined[0])]) == 0
    assert load_denoiser(joined[0]).guide.config == SMALL


def test_what_is_no_guide_is_refused(joined, tmp_path, capsys):
    deeper = replace(NARROW, blocks=SMALL.blocks + 1)
    save_weights(tmp_path / "deeper.pt", randomised(UNet(deeper)), deeper)
    assert join.main([str(joined[1]), str(tmp_path / "deeper.pt"), str(tmp_path / "out.pt")]) == 2
    assert "in more than its widths" in capsys.readouterr().err and not (tmp_path / "out.pt").exists()
    options = ["--guide-widths", "16", "--data", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    assert train.main(options) == 2
    assert "--guide-widths" in capsys.readouterr().err and not (tmp_path / "run").exists()
