import numpy as np
import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights
from p1_cond_ddpm import sample, train
from p1_cond_ddpm.unet import UNet
from tests.conftest import assert_one_line_error
from tests.p1_cond_ddpm.test_unet import SMALL, randomised


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "weights.pt", randomised(UNet(SMALL)), SMALL)
    return tmp_path / "weights.pt"


def images(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("sampler", sample.SAMPLERS)
def test_images_do_not_depend_on_the_batch(tmp_path, weights, sampler):
    fixed = ["--weights", str(weights), "--sampler", sampler, "--num-steps", "4", "--per-digit", "3"]
    folders = [tmp_path / "a b", tmp_path / "b", tmp_path / "c"]
    for folder, size in zip(folders, ("100", "100", "7")):
        assert sample.main([str(folder), *fixed, "--batch-size", size]) == 0
    first, again, other = map(images, folders)
    assert list(first) == [f"{d}_{n:03d}.png" for d in range(10) for n in (1, 2, 3)]
    assert all(image.shape == (28, 28, 3) for image in first.values())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert max(np.abs(first[name] - other[name]).max() for name in first) <= 1


def test_another_seed_gives_other_images(tmp_path, weights):
    for seed in ("0", "1"):
        sample.main([str(tmp_path / seed), "--weights", str(weights), "--num-steps", "1", "--per-digit", "1", "--seed", seed])
    a, b = images(tmp_path / "0"), images(tmp_path / "1")
    assert all(not np.array_equal(a[name], b[name]) for name in a)


def test_training_writes_weights_that_sample_reads(tmp_path, digit_folder):
    small = ["--widths", "16", "32", "--blocks", "1", "--middle-blocks", "1", "--embedding", "32"]
    run = tmp_path / "run"
    command = ["--data", str(digit_folder()), "--run", str(run), "--steps", "2", "--batch-size", "4", *small]
    assert train.main(command) == 0
    assert sample.main([str(tmp_path / "out"), "--weights", str(run / "weights.pt"), "--num-steps", "1", "--per-digit", "1"]) == 0
    assert len(images(tmp_path / "out")) == 10


def test_script_runs_from_anywhere(script, tmp_path, weights):
    result = script("hw2_1.sh", "new folder/out", "--weights", weights, "--per-digit", "1", "--num-steps", "2")
    assert result.returncode == 0, result.stderr
    assert len(images(tmp_path / "new folder" / "out")) == 10 and result.stdout == ""


def test_bad_input_is_one_line(script, tmp_path, weights):
    assert_one_line_error(script("hw2_1.sh", "out", "--weights", "nowhere.pt"), "nowhere.pt: no such file")
    assert_one_line_error(script("hw2_1.sh", "out", "--weights", weights, "--num-steps", "0"), "--num-steps 0: give 1 to 1000")
    crowded = script("hw2_1.sh", "out", "--weights", weights, "--num-steps", "900", "--spacing", "2")
    assert_one_line_error(crowded, "900 steps", "give fewer steps")
    (tmp_path / "file").write_text("")
    assert_one_line_error(script("hw2_1.sh", "file", "--weights", weights), "file")
    torch.save({"config": {"rate": 1}, "metadata": {}, "state_dict": {}}, tmp_path / "foreign.pt")
    assert_one_line_error(script("hw2_1.sh", "out", "--weights", "foreign.pt"), "foreign.pt", "not the weights of a UNet")
