"""What the released networks' trainings cost on this machine, one row each: seconds a step, and minutes for the preset.

python3 -m benchmarks.training --out docs/networks.csv

A few steps of every preset are trained on random images, whose number changes nothing. The fastest step counts, so the
minutes are those of a machine with nothing else to do. Problem 3's steps have all parts of the objective at once.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

import p1_cond_ddpm.train
import p2_ddim.train
import p3_dann.train
from benchmarks.measure import multiply_adds
from common.checkpoint import CHECKPOINTS, load_network
from common.cli import command, some_path, wrote
from common.config import check_range
from common.files import REPOSITORY, atomic_write
from p1_cond_ddpm.unet import UNet, UNetConfig, without_guidance
from p2_ddim.unet import load_face_unet
from p3_dann.inference import load_classifier

IMAGES, DOMAINS = 128, ("mnistm", "svhn", "usps")  # a batch of problem 3's
LOGGED = 2  # steps that a line of metrics is the mean of
LAST_TIMESTEP, DIGIT = torch.tensor([999]), torch.tensor([7])


class Training(NamedTuple):
    """How a released network is trained, and what it takes beside a picture."""

    name: str
    main: Callable[[Sequence[str]], int]
    preset: str
    data: str
    load: Callable[[Path], nn.Module]
    side: int = 28
    inputs: tuple[Tensor, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return REPOSITORY / self.main.__module__.split(".")[0] / "presets" / f"{self.preset}.txt"


def denoiser_alone(path: Path) -> nn.Module:
    """Problem 1's network without guide and head, which are trained apart."""
    return without_guidance(load_network(path, UNet, UNetConfig))


P1, P2, P3 = p1_cond_ddpm.train.main, p2_ddim.train.main, p3_dann.train.main
AT_ONCE = ("--ramp-steps=1",)
TRAININGS = (
    Training("p1_mnistm", P1, "mnistm", "digits/mnistm", denoiser_alone, 28, (LAST_TIMESTEP, DIGIT)),
    Training("p1_mnist", P1, "mnist", "digits/mnistm", denoiser_alone, 28, (LAST_TIMESTEP, DIGIT)),
    Training("p2_celeba32", P2, "celeba32", "digits/mnistm/data", load_face_unet, 32, (LAST_TIMESTEP,)),
    Training("p3_svhn", P3, "svhn", "digits", load_classifier, options=AT_ONCE),
    Training("p3_usps", P3, "usps", "digits", load_classifier, options=AT_ONCE),
)


def make_data(root: Path) -> None:
    """Random pictures in the layout of hw2_data/digits."""
    random = np.random.RandomState(0)
    for domain in DOMAINS:
        folder = root / "digits" / domain
        (folder / "data").mkdir(parents=True)
        names = [f"{number:05d}.png" for number in range(IMAGES)]
        for name in names:
            Image.fromarray(random.randint(0, 256, (28, 28, 3), dtype=np.uint8)).save(folder / "data" / name)
        rows = pd.DataFrame({"image_name": names, "label": np.arange(IMAGES) % 10})
        for split in ("train", "val"):
            rows.to_csv(folder / f"{split}.csv", index=False)


def seconds_per_step(training: Training, root: Path, steps: int) -> float:
    """The fastest of a short training's steps, each a mean of LOGGED; the first ones warm up."""
    run = root / training.name
    options = [f"--steps={steps}", f"--log-every={LOGGED}", "--warmup=1", *training.options]
    files = ["--data", str(root / training.data), "--run-dir", str(run)]
    with redirect_stdout(sys.stderr):
        code = training.main([f"@{training.path}", *files, *options])
    if code:
        raise SystemExit(code)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return min(json.loads(line)["seconds"] for line in lines[1:])


def measured(training: Training, root: Path, steps: int) -> dict[str, object]:
    """A row of the CSV."""
    weights = CHECKPOINTS / f"{training.name}.pt"
    model = training.load(weights)
    lines = training.path.read_text(encoding="utf-8").splitlines()
    whole = next(int(line.removeprefix("--steps=")) for line in lines if line.startswith("--steps="))
    seconds = seconds_per_step(training, root, steps)
    return {
        "network": training.name,
        "preset": training.preset,
        "file_megabytes": round(weights.stat().st_size / 1e6, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": multiply_adds(model, torch.zeros(1, 3, training.side, training.side), *training.inputs),
        "steps": whole,
        "seconds_per_step": round(seconds, 3),
        "minutes": round(whole * seconds / 60, 1),
        "threads": torch.get_num_threads(),
    }


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="steps of each training (default: 12)")
    names = [training.name for training in TRAININGS]
    parser.add_argument("--networks", nargs="+", choices=names, default=names, help="(default: all)")
    parser.add_argument("--out", type=some_path, help="write the rows as a CSV, too")
    arguments = parser.parse_args(argv)
    check_range("--steps", arguments.steps, 2 * LOGGED)
    with TemporaryDirectory() as folder:
        make_data(Path(folder))
        rows = [measured(t, Path(folder), arguments.steps) for t in TRAININGS if t.name in arguments.networks]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if arguments.out:
        with atomic_write(arguments.out) as temporary:
            table.to_csv(temporary, index=False)
        wrote(arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
