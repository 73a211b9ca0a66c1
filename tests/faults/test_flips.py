"""A flipped bit is never a traceback, and never silently another result where a checksum can tell."""

import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from common import curves
from common.checkpoint import load_weights, save_weights
from common.digits import load_digits, load_training_digits
from common.inception import Network, features
from common.measurements import Measurements
from common.training import fit
from homework import archive, download, release
from p1_cond_ddpm import sample
from p1_cond_ddpm.unet import UNet
from p2_ddim.noise import read_noise, write_noises
from p3_dann.table import main as table
from tests.faults.inject import flips, run
from tests.helpers import SMALL, randomised
from tests.tiny_training import OPTIONS, Interrupted, interrupted_at, loss, network

pytestmark = pytest.mark.usefixtures("undrawn")


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "machines.jsonl"}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    save_weights(path, randomised(UNet(SMALL)), SMALL, labelled=True)
    return path


def test_weights(tally, weights):
    whole, count = load_weights(weights), tally("bit flips: weights")
    right = lambda read: read[:2] == whole[:2] and same_tensors(read.state_dict, whole.state_dict)
    for what in flips(weights):
        count.add(what, lambda: load_weights(weights), right)


def test_noises(tally, tmp_path):
    write_noises(tmp_path, 1, 32)
    path = tmp_path / "00.pt"
    whole, count = read_noise(path), tally("bit flips: noises")
    for what in flips(path):
        count.add(what, lambda: read_noise(path), lambda read: torch.equal(read, whole))


@pytest.mark.parametrize("name", ["00002.png", ".sampling.json"])
def test_numbered_images(tally, tmp_path, weights, name):
    command = [tmp_path / "out", "--weights", weights, "--num-steps", 1, "--count", 2]
    run(sample.main, *command)
    whole, count = contents(tmp_path / "out"), tally(f"bit flips: numbered images, {name.strip('.0123456789')}")
    for what in flips(tmp_path / "out" / name):
        count.add(what, lambda: run(sample.main, *command), lambda _: contents(tmp_path / "out") == whole)


def test_a_manifest(tally, tmp_path, weights, monkeypatch):
    monkeypatch.delenv("HW2_MIRROR", raising=False)
    folder = tmp_path / "checkpoints"
    for name in ("a.pt", "b.pt"):
        run(release.main, weights, name, "--folder", folder)
    whole, count = contents(folder), tally("bit flips: manifest.json")
    same_files = lambda _: all(contents(folder)[name] == whole[name] for name in ("a.pt", "b.pt"))
    for what in flips(folder / "manifest.json"):
        damaged = (folder / "manifest.json").read_bytes()
        count.add(f"download, {what}", lambda: run(download.main, "--folder", folder), same_files)
        count.add(f"load, {what}", lambda: load_weights(folder / "a.pt"), same_files)
        count.add(f"release, {what}", lambda: run(release.main, weights, "c.pt", "--folder", folder), same_files)
        (folder / "manifest.json").write_bytes(damaged)


@pytest.mark.parametrize("name", ["state.pt", "before_cooldown.pt", "options.json", "metrics.jsonl"])
def test_a_run_that_goes_on(tally, tmp_path, name, capsys):
    weights = fit(loss, network(), OPTIONS, tmp_path / "whole").state_dict()
    with pytest.raises(Interrupted):
        fit(interrupted_at(5), network(), OPTIONS, tmp_path / "stopped")
    if name == "before_cooldown.pt":
        (tmp_path / "stopped" / "state.pt").unlink()
    lines = values_by_step(tmp_path / "whole")
    count = tally(f"bit flips: {name}, then the run goes on")

    def resumed():
        shutil.rmtree(tmp_path / "resumed", ignore_errors=True)
        shutil.copytree(tmp_path / "stopped", tmp_path / "resumed")
        capsys.readouterr()
        state = fit(loss, network(), OPTIONS, tmp_path / "resumed").state_dict()
        told = "metrics.jsonl" in capsys.readouterr().err
        return state, told or values_by_step(tmp_path / "resumed") == lines

    for what in flips(tmp_path / "stopped" / name):
        count.add(what, resumed, lambda result: same_tensors(result[0], weights) and result[1])


def values_by_step(run_folder):
    """Lines of metrics without what no two runs have alike."""
    lines = (run_folder / "metrics.jsonl").read_bytes().splitlines()
    try:
        rows = [json.loads(line) for line in lines]
        return [{name: row[name] for name in row if name != "seconds"} for row in rows]
    except (ValueError, TypeError):
        return lines


def test_metrics_as_curves(tally, tmp_path):
    fit(loss, network(), OPTIONS, tmp_path / "run")
    count, command = (
        tally("bit flips: metrics.jsonl, then curves"),
        [tmp_path / "run", "--out", tmp_path / "curves.png"],
    )
    for what in flips(tmp_path / "run" / "metrics.jsonl"):
        count.add(what, lambda: run(curves.main, *command), lambda _: True)


def test_data_sets(tally, digit_folder):
    root = digit_folder()
    whole, count = load_digits(root, "train.csv"), tally("bit flips: train.csv")
    for what in flips(root / "train.csv"):
        count.add(what, lambda: load_digits(root, "train.csv"), lambda read: len(read) == len(whole))


def test_packed_data_sets(tally, tmp_path):
    images = np.random.RandomState(0).randint(0, 255, (20, 28, 28, 3), dtype=np.uint8)
    path = tmp_path / "digits.npz"
    np.savez(path, images=images, labels=np.arange(20) % 10)
    whole, count = load_training_digits(path), tally("bit flips: .npz")
    right = lambda read: torch.equal(read.images, whole.images) and torch.equal(read.labels, whole.labels)
    for what in flips(path):
        count.add(what, lambda: load_training_digits(path), right)


def test_kept_features(tally, tmp_path):
    images = np.random.RandomState(0).randint(0, 255, (20, 28, 28, 3), dtype=np.uint8)
    network = Network("mean colours", 3, lambda part: part.mean((1, 2), dtype=np.float32))
    whole, count = features(images, tmp_path, network), tally("bit flips: kept features")
    (path,) = tmp_path.iterdir()
    for what in flips(path):
        count.add(what, lambda: features(images, tmp_path, network), lambda read: np.array_equal(read, whole))


def test_measurements(tally, tmp_path):
    path, count = tmp_path / "sweep.csv", tally("bit flips: CSV of measurements")
    table = pd.DataFrame([{"weights": f"{n:08x}", "num_steps": n, "fid": n / 7} for n in range(5)])
    table.to_csv(path, index=False)
    for what in flips(path):
        count.add(what, lambda: Measurements(path, ["num_steps"]).add({"weights": "0", "num_steps": 2}), lambda _: True)


@pytest.mark.parametrize("name", ["result.json", "options.json", "metrics.jsonl"])
def test_the_homeworks_table(tally, tmp_path, name):
    count, folder = tally(f"bit flips: {name}, then p3_dann.table"), tmp_path / "run"
    folder.mkdir()
    settings = {"fit": {"steps": 6, "seed": 0}, "train": {"mode": "dann", "target": "usps"}}
    settings |= {"objective": {"entropy": 0.1, "balance": 0.1, "pseudo": 1.0}, "data": {"fingerprint": "0"}}
    settings["machine"] = {"world_size": 1, "computed_in": "bf16"}
    (folder / "options.json").write_text(json.dumps(settings))
    (folder / "result.json").write_text(json.dumps({"settings": settings, "val_accuracy": 0.5, "agreement": 0.4}))
    (folder / "weights.pt").write_bytes(b"weights")
    (folder / "metrics.jsonl").write_text('{"step": 2, "seconds": 0.5}\n{"step": 4, "seconds": 0.25}\n')
    run(table, folder)
    for what in flips(folder / name):
        count.add(what, lambda: run(table, folder), lambda _: True)


def test_an_archive_of_images(tally, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "COUNT", 3)
    folder, path = tmp_path / "images", tmp_path / "img_1.zip"
    folder.mkdir()
    for number in range(1, 4):
        Image.fromarray(np.full((28, 28, 3), number, np.uint8)).save(folder / f"{number:05d}.png")
    run(archive.main, "images", folder, path)
    count, pictures = tally("bit flips: archive of images"), tally("bit flips: picture, then the archive")

    def read():
        run(archive.main, "check", path)
        with zipfile.ZipFile(path) as found:
            return {name: found.read(name) for name in found.namelist()}

    whole = read()
    for what in flips(path):
        count.add(what, read, lambda found: found == whole)
    for what in flips(folder / "00002.png"):
        pictures.add(what, lambda: run(archive.main, "images", folder, path) and read(), lambda found: found == whole)
