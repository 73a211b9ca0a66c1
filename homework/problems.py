"""The homework's graded scripts as tasks: what each is given, and how what it writes is judged.

Input is a folder in the layout of hw2_data/. Where the course's faces or all digits are absent, a stand-in is made and
the task says so.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from common.checkpoint import CHECKPOINTS
from common.cli import UserError
from common.diffusion import ddim_timesteps
from common.files import REPOSITORY, real_data
from common.images import write_png
from p1_cond_ddpm import judge
from p2_ddim.evaluate import mean_squared_error
from p2_ddim.noise import read_noise, write_noises
from p2_ddim.sampling import FIRST_TIMESTEP, NUM_STEPS, NUM_TIMESTEPS, to_picture
from p2_ddim.unet import load_face_unet
from p3_dann.evaluate import csv_accuracy

PER_DIGIT = 100
LIMITS = {"hw2_download.sh": 1800, "hw2_1.sh": 900, "hw2_2.sh": 300, "hw2_3.sh": 600}  # seconds; the first is our own


class Task(NamedTuple):
    """One run of a graded script. `score` judges what it wrote; it raises UserError where that is not whole."""

    problem: str
    metric: str
    script: str
    arguments: tuple[Path, ...]
    score: Callable[[], float]
    points: Mapping[float, int]  # by the score that earns them, the easiest first
    lower: bool = False  # less is better: a squared error, not an accuracy in percent
    stand_in: bool = False

    def shown(self, score: float) -> str:
        return f"{score:.4f}" if self.lower else f"{score:.1f} %"

    def bound(self, threshold: float) -> str:
        return f"< {threshold:g}" if self.lower else f"{threshold:g} %"

    def earned(self, score: float, threshold: float) -> bool:
        return score < threshold if self.lower else score >= threshold


def find_data(work: Path) -> Path | None:
    """A folder in the layout of hw2_data/: the repository's own, one made of $HW2_REAL_DATA in `work`, or None."""
    if (REPOSITORY / "hw2_data").is_dir():
        return REPOSITORY / "hw2_data"
    unpack = real_data("data/unpack.py")
    if not unpack:
        return None
    for name in ("svhn", "usps"):
        if subprocess.run([sys.executable, unpack, work / "hw2_data", "--only", name], stdout=sys.stderr).returncode:
            raise UserError(f"{unpack}: failed, see above")
    return work / "hw2_data"


def tasks(work: Path, out: Path, data: Path | None, *, written: bool = False) -> Iterator[Task]:
    """All tasks in turn. What they are given is made in `work` as they are reached; they write to `out`.

    With `written` nothing will be run: `out` has all. Raises UserError where one of the two target domains is missing.
    """
    domains = {"svhn": {40.0: 3}, "usps": {76.0: 3}}
    labels = {name: data / "digits" / name / "val.csv" for name in domains} if data else {}
    missing = [path for path in labels.values() if not path.is_file()]
    if len(missing) == 1:
        raise UserError(f"{missing[0]}: not found; give both target domains, or neither for a stand-in")
    yield digits(out / "p1")
    yield faces(work, out / "p2", data, given="GT" if written else "UNet.pt")
    if data and not missing:
        for name, points in domains.items():
            yield domain(name, points, work=work, out=out, data=data)
    else:
        yield bundled_digits(work, out)


def digits(folder: Path) -> Task:
    """Problem 1: the judge's accuracy on the 1000 images."""

    def accuracy() -> float:
        names = [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, PER_DIGIT + 1)]
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise UserError(f"{len(missing)} of {len(names)} images are missing, first {missing[0]}")
        correct, total = judge.count_correct(folder, judge.find_weights())
        return 100 * correct / total

    who = "own judge" if judge.find_weights() == judge.OWN else "course's judge"
    return Task("1 digits", f"accuracy, {who}", "hw2_1.sh", (folder,), accuracy, {90.0: 10, 95.0: 5})


def faces(work: Path, folder: Path, data: Path | None, *, given: str) -> Task:
    """Problem 2: mean squared error to the course's pictures where face/ has what is `given`, or else of our own
    network to diffusers' scheduler.
    """
    face = data / "face" if data else None
    stand_in = not (face and (face / given).exists())
    if face and not stand_in:
        noises, reference, network, metric = face / "noise", face / "GT", face / "UNet.pt", "MSE, course's pictures"
    else:
        noises, reference, network = work / "noise", work / "GT", CHECKPOINTS / "p2_celeba32.pt"
        metric = "MSE to diffusers, stand-in: our own network, 32×32"
        make_reference_faces(network, noises, reference)

    def error() -> float:
        return float(
            np.mean([mean_squared_error(folder / path.name, path) for path in sorted(reference.glob("*.png"))])
        )

    arguments = (noises, folder, network)
    return Task("2 faces", metric, "hw2_2.sh", arguments, error, {20.0: 10}, lower=True, stand_in=stand_in)


@torch.inference_mode()
def make_reference_faces(network: Path, noises: Path, pictures: Path) -> None:
    """Ten noises from a seed, and the pictures that diffusers' DDIMScheduler makes of them with a network."""
    from diffusers import DDIMScheduler  # a development package: only this reference needs it

    write_noises(noises, 10, 32)
    model = load_face_unet(network)
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=2e-2, clip_sample=True, set_alpha_to_one=False, steps_offset=FIRST_TIMESTEP
    )
    scheduler.set_timesteps(NUM_STEPS)
    assert scheduler.timesteps.tolist() == ddim_timesteps(NUM_TIMESTEPS, NUM_STEPS, offset=FIRST_TIMESTEP)
    for path in tqdm(sorted(noises.iterdir()), unit="face", desc="reference faces by diffusers"):
        x = read_noise(path)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t[None]), t, x).prev_sample
        write_png(pictures / f"{path.stem}.png", to_picture(x[0]))


def percent_correct(predictions: Path, labels: Path) -> float:
    correct, total = csv_accuracy(predictions, labels)
    return 100 * correct / total


def domain(name: str, points: Mapping[float, int], *, work: Path, out: Path, data: Path) -> Task:
    """Problem 3: accuracy on the val images of one target domain, in a folder named as at the course."""
    source, folder, predictions = data / "digits" / name, work / "digits" / name / "test", out / f"{name}.csv"
    folder.mkdir(parents=True)
    images = pd.read_csv(source / "val.csv", dtype={"image_name": str})["image_name"]
    for image in images:
        (folder / image).symlink_to((source / "data" / image).resolve())
    problem, metric = f"3 MNIST-M to {name.upper()}", f"accuracy, {len(images)} val images"
    score = partial(percent_correct, predictions, source / "val.csv")
    return Task(problem, metric, "hw2_3.sh", (folder, predictions), score, points)


def bundled_digits(work: Path, out: Path) -> Task:
    """Problem 3 on scikit-learn's handwritten digits, a domain like USPS that no network here has seen."""
    from sklearn.datasets import load_digits

    folder, labels, predictions = work / "digits" / "usps" / "test", work / "bundled.csv", out / "usps.csv"
    folder.mkdir(parents=True)
    bunch = load_digits()
    names = [f"{i:05d}.png" for i in range(len(bunch.target))]
    for name, image in zip(names, bunch.images):
        small = Image.fromarray((image * (255 / 16)).astype(np.uint8))
        small.resize((28, 28), Image.Resampling.BILINEAR).save(folder / name)
    pd.DataFrame({"image_name": names, "label": bunch.target}).to_csv(labels, index=False)
    metric = f"accuracy, stand-in: {len(names)} bundled digits"
    score = partial(percent_correct, predictions, labels)
    return Task("3 MNIST-M to USPS", metric, "hw2_3.sh", (folder, predictions), score, {76.0: 3}, stand_in=True)
