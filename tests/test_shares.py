"""Sampling and prediction by several processes: each does its share, and together they write what one alone does."""

import pytest
from PIL import Image, ImageDraw

from common.checkpoint import save_weights
from common.processes import Place
from p1_cond_ddpm import sample as digits
from p1_cond_ddpm.unet import UNet
from p2_ddim import noise
from p2_ddim import sample as faces
from p2_ddim.unet import FaceUNet
from p3_dann.predict import main as predict
from tests.helpers import SMALL, THIN, randomised, start_two


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.parametrize("network, config", [(UNet, SMALL), (FaceUNet, THIN)])
def test_every_process_draws_other_pictures_and_all_the_same_bytes(tmp_path, monkeypatch, network, config):
    save_weights(tmp_path / "weights.pt", randomised(network(config)), config)
    weights, command = str(tmp_path / "weights.pt"), ["--num-steps", "2", "--device", "cpu"]

    def drawn(name):
        out = tmp_path / name
        if network is UNet:
            assert digits.main([str(out), "--weights", weights, "--per-digit", "1", "--batch-size", "3", *command]) == 0
        else:
            assert noise.main([str(tmp_path / "noises"), "--count", "5", "--size", "32"]) == 0
            assert faces.main([str(tmp_path / "noises"), str(out), weights, "--chunk-size", "2", *command]) == 0
        return contents(out)

    whole, shares = drawn("whole"), []
    for rank in (0, 1):
        monkeypatch.setattr("common.processes.place", lambda here=rank: Place(here, 2))
        shares.append(drawn(f"share{rank}"))
    assert len(shares[0]) + len(shares[1]) == len(whole) and whole == {**shares[0], **shares[1]}
    assert all(shares)


def run_two(*arguments):
    for process in start_two(*arguments):
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors


@pytest.mark.processes
def test_two_processes_add_the_missing_numbered_images(tmp_path):
    save_weights(tmp_path / "weights.pt", randomised(UNet(SMALL)), SMALL)
    options = ["--weights", tmp_path / "weights.pt", "--num-steps", "2", "--batch-size", "2", "--count", "7"]
    for folder in (tmp_path / "alone", tmp_path / "two"):
        assert digits.main([str(folder), *map(str, options)]) == 0
        for n in (2, 3, 5, 6):
            (folder / f"{n:05d}.png").unlink()
    assert digits.main([str(tmp_path / "alone"), *map(str, options)]) == 0
    run_two("-m", "p1_cond_ddpm.sample", tmp_path / "two", *options)
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")


@pytest.mark.processes
def test_two_processes_predict_what_one_does(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(150):
        image = Image.new("RGB", (12, 12))
        ImageDraw.Draw(image).text((3, 0), str(n % 10), fill="white")
        image.resize((28, 28)).save(folder / f"{n:05d}.png")
    (folder / "00004.png").write_bytes(b"damaged")
    assert predict([str(folder), str(tmp_path / "one.csv"), "--domain", "usps"]) == 0
    run_two("-m", "p3_dann.predict", folder, tmp_path / "two.csv", "--domain", "usps")
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert len({row[-1] for row in (tmp_path / "one.csv").read_text().splitlines()[1:]}) > 1
