"""Run the graded scripts on real input, judge what they write, print one table (demo.sh).

Real input is hw2_data/ in the repository, or what HW2_REAL_DATA has; where it lacks, a stand-in is made and marked so.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from common.checkpoint import CHECKPOINTS
from common.cli import UserError, command, some_path, wrote
from common.diffusion import ddim_timesteps
from common.files import REPOSITORY, atomic_write, real_data
from common.images import write_png
from p1_cond_ddpm import judge
from p2_ddim.evaluate import mean_squared_error
from p2_ddim.noise import read_noise, write_noises
from p2_ddim.sampling import FIRST_TIMESTEP, NUM_STEPS, NUM_TIMESTEPS, to_picture
from p2_ddim.unet import load_face_unet
from p3_dann.evaluate import csv_accuracy

DOMAINS = {"svhn": "40 %", "usps": "76 %"}  # and the accuracy that the homework requires


class Row(NamedTuple):
    problem: str
    metric: str
    required: str
    reached: str
    seconds: float


def timed(*words: object) -> float:
    """Run a command, its output on our stderr; return the seconds. Raises UserError where it fails."""
    print("$", *words, file=sys.stderr)
    start = time.perf_counter()
    if subprocess.run([*map(str, words)], stdout=sys.stderr).returncode:
        raise UserError(f"{' '.join(str(word) for word in words)}: failed, see above")
    return time.perf_counter() - start


def find_data(out: Path) -> Path | None:
    """A folder in the layout of hw2_data/, or None."""
    if (REPOSITORY / "hw2_data").is_dir():
        return REPOSITORY / "hw2_data"
    unpack = real_data("data/unpack.py")
    if not unpack:
        return None
    for name in ("svhn", "usps"):
        timed(sys.executable, unpack, out / "hw2_data", "--only", name)
    return out / "hw2_data"


def digits(out: Path) -> Row:
    """Problem 1: the judge's accuracy on the 1000 images."""
    seconds = timed("bash", REPOSITORY / "hw2_1.sh", out / "p1")
    classify = [sys.executable, REPOSITORY / "digit_classifier.py", "--folder", out / "p1"]
    result = subprocess.run([*map(str, classify)], stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise UserError("digit_classifier.py: failed, see above")
    who = "own judge" if judge.find_weights() == judge.OWN else "course's judge"
    return Row("1 digits", f"accuracy, {who}", "95 %", f"{100 * float(result.stdout.split()[2]):.1f} %", seconds)


def faces(out: Path, data: Path | None) -> Row:
    """Problem 2: mean squared error to the course's pictures, or of our own network to diffusers' scheduler."""
    face = data / "face" if data else None
    if face and (face / "UNet.pt").is_file():
        noises, reference, network, metric = face / "noise", face / "GT", face / "UNet.pt", "MSE, course's pictures"
    else:
        noises, reference, network = out / "noise", out / "GT", CHECKPOINTS / "p2_celeba32.pt"
        metric = "MSE to diffusers, stand-in: our own network, 32×32"
        make_reference_faces(network, noises, reference)
    seconds = timed("bash", REPOSITORY / "hw2_2.sh", noises, out / "p2", network)
    errors = [mean_squared_error(out / "p2" / path.name, path) for path in sorted(reference.glob("*.png"))]
    return Row("2 faces", metric, "< 20", f"{np.mean(errors):.4f}", seconds)


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


def domain(out: Path, data: Path, name: str, required: str) -> Row:
    """Problem 3: accuracy on the val images of one target domain."""
    source, folder = data / "digits" / name, out / f"p3 {name} val"
    folder.mkdir()
    for image in pd.read_csv(source / "val.csv", dtype={"image_name": str})["image_name"]:
        (folder / image).symlink_to((source / "data" / image).resolve())
    seconds = timed("bash", REPOSITORY / "hw2_3.sh", folder, out / f"{name}.csv")
    correct, total = csv_accuracy(out / f"{name}.csv", source / "val.csv")
    return Row(
        f"3 MNIST-M to {name.upper()}",
        f"accuracy, {total} val images",
        required,
        f"{100 * correct / total:.1f} %",
        seconds,
    )


def domain_stand_in(out: Path) -> Row:
    """Problem 3 on scikit-learn's bundled handwritten digits, a domain like USPS that no network here has seen."""
    from sklearn.datasets import load_digits as bundled_digits

    folder, bunch = out / "p3 bundled", bundled_digits()
    folder.mkdir()
    names = [f"{i:05d}.png" for i in range(len(bunch.target))]
    for name, image in zip(names, bunch.images):
        small = Image.fromarray((image * (255 / 16)).astype(np.uint8))
        small.resize((28, 28), Image.Resampling.BILINEAR).save(folder / name)
    pd.DataFrame({"image_name": names, "label": bunch.target}).to_csv(out / "bundled labels.csv", index=False)
    seconds = timed("bash", REPOSITORY / "hw2_3.sh", folder, out / "bundled.csv")
    correct, total = csv_accuracy(out / "bundled.csv", out / "bundled labels.csv")
    metric = f"accuracy, stand-in: {total} bundled digits"
    return Row("3 MNIST-M to USPS", metric, DOMAINS["usps"], f"{100 * correct / total:.1f} %", seconds)


def print_table(rows: Sequence[Row]) -> None:
    """A Markdown table on stdout."""
    table = [Row._fields, *[row._replace(seconds=f"{row.seconds:.0f}") for row in rows]]  # type: ignore[arg-type]
    widths = [max(len(str(row[i])) for row in table) for i in range(len(Row._fields))]
    for number, row in enumerate(table):
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=some_path, default=REPOSITORY / "runs" / "demo", help="emptied first (default: runs/demo)"
    )
    parser.add_argument("--table", type=some_path, help="write the table as a CSV, too")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    marker = out / ".made-by-demo"
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise UserError(f"--out {out}: holds files that the demo didn't make; give an empty or new folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()
    timed("bash", REPOSITORY / "hw2_download.sh")
    data = find_data(out)
    rows = [digits(out), faces(out, data)]
    if data:
        rows += [domain(out, data, name, least) for name, least in DOMAINS.items()]
    else:
        rows.append(domain_stand_in(out))
    print_table(rows)
    if arguments.table:
        with atomic_write(arguments.table) as temporary:
            pd.DataFrame(rows).round({"seconds": 0}).astype({"seconds": int}).to_csv(temporary, index=False)
        wrote(arguments.table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
