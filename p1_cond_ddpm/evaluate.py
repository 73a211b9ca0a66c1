"""Judge digits: accuracy and, with --data, quality (common.fid) and variety of strokes (strokes.py) against val, and
the nearest training image.

python3 -m p1_cond_ddpm.evaluate OUT_DIR --data hw2_data/digits/mnistm --cache runs/features     images D_NNN.png
python3 -m p1_cond_ddpm.evaluate --seeds 0 1 2 3 4       what hw2_1.sh --seed N would write, and the mean over the seeds

The second takes hw2_1.sh's options, too. With --out it adds a row for every seed to a CSV; what the CSV has is not
measured again, unless it was measured without --data.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.checkpoint import weights_id
from common.cli import UserError, add_device, command, some_path
from common.config import check_range, parse_options, to_json
from common.device import choose_device, usable_precision
from common.digits import load_digits
from common.images import nearest_distance
from common.measurements import Measurements
from common.rng import generator
from p1_cond_ddpm import judge
from p1_cond_ddpm.sampling import (
    INTERVALS,
    WEIGHTS,
    SampleOptions,
    digits_by_number,
    load_denoiser,
    sample_images,
    usable_options,
)
from p1_cond_ddpm.scores import SCORES, Reference, judged, real_row


def as_row(weights: Path, options: SampleOptions) -> dict[str, Any]:
    """What a row of a CSV says of the weights and options."""
    intervals = {name: "{}-{}".format(*getattr(options, name)) for name in INTERVALS}
    return {"weights": weights_id(weights), **to_json(options), **intervals}


def listed(scores: dict[str, float]) -> str:
    """The scores that a row has, in words."""
    return ", ".join(f"{name} {scores[name]:.4f}" for name in SCORES if name in scores)


def print_means(rows: Sequence[dict[str, float]]) -> None:
    """The mean of each score over the seeds that have it, and the worst."""
    for name in SCORES:
        values = [row[name] for row in rows if name in row]
        if not values:
            continue
        worst = max(values) if name == "fid768" else min(values)
        print(f"{name}: mean of {len(values)} seeds {np.mean(values):.4f}, worst {worst:.4f}")


def once(
    kept: Measurements | None,
    setting: dict[str, Any],
    measure: Callable[[], dict[str, float]],
    needed: Sequence[str] = ("own_judge",),
) -> dict[str, float]:
    """The scores of a setting, measured and kept only where no kept row has those that are needed."""
    row = kept.find(setting) if kept else None
    if row is None or any(np.isnan(row.get(name, np.nan)) for name in needed):
        if kept and row:
            kept.rows.remove(row)
        row = setting | measure()
        if kept:
            kept.add(row)
    return {name: row[name] for name in SCORES if not np.isnan(row.get(name, np.nan))}


def evaluate_seeds(arguments: argparse.Namespace, options: SampleOptions, reference: Reference | None) -> None:
    """Sample and judge every seed's graded images, print the scores, and keep them where --out says.

    With a reference also those of real images. `nearest` is the smallest distance to a training image.
    """
    check_range("--seeds", arguments.seeds, 0)
    check_range("--per-digit", arguments.per_digit, 1, 999)
    device = choose_device(arguments.device)
    options = replace(options, precision=usable_precision(device, options.precision))
    specs = digits_by_number(arguments.per_digit, 0)
    model = load_denoiser(arguments.weights, specs, guided=options.guidance_scale != 1).to(device)
    options = usable_options(model, options)
    kept = Measurements(arguments.out) if arguments.out else None
    training = load_digits(arguments.data, "train.csv").images if reference else None

    def judge_and_copies(images: Tensor, labels: Tensor) -> dict[str, float]:
        copies = {} if training is None else {"nearest": nearest_distance(images, training).min().item()}
        return judged(images, labels) | copies

    def measure_seed(seed: int) -> dict[str, float]:
        sampled = sample_images(model, options, digits_by_number(arguments.per_digit, seed))
        images, pictures = zip(*sampled)
        digits, labels = torch.stack(pictures).cpu(), torch.tensor([one.label for one in images])
        return judge_and_copies(digits, labels) | (reference.scores(digits, labels) if reference else {})

    rows, needed = [], ["own_judge", *(["nearest"] if reference else [])]
    for seed in arguments.seeds:
        setting = {**as_row(arguments.weights, options), "seed": seed, "images": len(specs)}
        rows.append(once(kept, setting, partial(measure_seed, seed), needed))
        print(f"seed {seed}, {len(specs)} images: {listed(rows[-1])}", flush=True)
    print_means(rows)
    if reference is not None:
        real = partial(reference.real_scores, arguments.per_digit, judge_and_copies)
        print(f"real images: {listed(once(kept, real_row(len(specs)), real)) or 'too few'}")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=some_path, nargs="?", help="of images D_NNN.png")
    parser.add_argument("--seeds", type=int, nargs="+", help="sample the graded images of these seeds instead")
    parser.add_argument("--out", type=some_path, help="CSV to which every seed's scores are added")
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit and seed (default: 100)")
    parser.add_argument(
        "--weights", type=some_path, default=WEIGHTS, help="of the network to sample (default: the released)"
    )
    parser.add_argument("--data", type=some_path, help="MNIST-M's folder")
    parser.add_argument("--cache", type=some_path, help="folder that keeps val's features between calls")
    add_device(parser)
    arguments, options = parse_options(parser, argv, SampleOptions)
    if (arguments.folder is None) == (arguments.seeds is None):
        raise UserError("give either a folder of digits or --seeds")
    if arguments.data:
        held_out = load_digits(arguments.data, "val.csv")
        val, reference = held_out.images, Reference(held_out.images, held_out.labels, arguments.cache)
    if arguments.seeds is not None:
        evaluate_seeds(arguments, options, reference if arguments.data else None)
        return 0
    images, labels = judge.read_folder(arguments.folder)
    for name, value in judged(images, labels).items():
        print(f"{name.replace('_', ' ')}'s accuracy {value:.4f}")
    if not arguments.data:
        return 0
    found = reference.scores(images, labels)
    print(f"{len(images)} images against {len(val)} of val: {listed(found)}")
    training = load_digits(arguments.data, "train.csv").images
    drawn = val[torch.randperm(len(val), generator=generator(0))[: len(images)]]
    for name, some in (("these", images), ("as many val", drawn)):
        distance = nearest_distance(some, training).numpy()
        low, middle = np.quantile(distance, [0, 0.5])
        print(f"nearest training image of {name} images: closest {low:.2f}, median {middle:.2f} grey levels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
