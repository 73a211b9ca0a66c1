"""Judge digits: accuracy and, with --data, quality (common.fid) and variety of strokes (strokes.py) against val, and
the nearest training image.

python3 -m p1_cond_ddpm.evaluate OUT_DIR --data hw2_data/digits/mnistm --cache runs/features     images D_NNN.png
python3 -m p1_cond_ddpm.evaluate --seeds 0 1 2 3 4       what hw2_1.sh --seed N would write, and the mean over the seeds

The second takes hw2_1.sh's options, too. With --out it adds a row for every seed to a CSV; what the CSV has is not
measured again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.checkpoint import weights_id
from common.cli import UserError, add_device, command, some_path
from common.config import check_range, parse_options, to_json
from common.device import choose_device, usable_precision
from common.digits import DigitSet, load_digits
from common.fid import quality
from common.images import to_unit_range
from common.inception import features
from common.measurements import Measurements
from common.rng import generator
from p1_cond_ddpm import judge
from p1_cond_ddpm.sampling import WEIGHTS, ImageSpec, SampleOptions, digits_by_number, load_denoiser, sample_images
from p1_cond_ddpm.strokes import comparable, load_stroke_net, real_shapes, stroke_maps, variety
from p1_cond_ddpm.unet import UNet

SCORES = ("own_judge", "given_judge", "fid768", "stroke_coverage", "stroke_density", "spread", "slant", "ink")


class Reference:
    """Real images: what quality (common.fid) and, where there are labels, variety (strokes.py) are measured against."""

    def __init__(self, images: Tensor, labels: Tensor | None, cache: Path | None):
        self.features = features(images.permute(0, 2, 3, 1).numpy(), cache)
        self.network = load_stroke_net()
        self.shapes = [] if labels is None else real_shapes(self.network, DigitSet(images, labels))

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Of (N, 3, 28, 28) uint8 images; the variety where every digit has images enough."""
        found = quality(images.permute(0, 2, 3, 1).numpy(), self.features)
        if self.shapes and comparable(labels, self.shapes):
            found |= variety(stroke_maps(self.network, images), labels, self.shapes)
        return found


@torch.inference_mode()
def accuracy(images: Tensor, labels: Tensor, weights: Path) -> float:
    """Share of (N, 3, 28, 28) uint8 images that a judge takes for their label."""
    logits = judge.load(weights)(to_unit_range(images))
    return (logits.argmax(dim=1) == labels).float().mean().item()


def nearest_distance(images: Tensor, training: Tensor, *, batch_size: int = 250) -> Tensor:
    """Root-mean-square distance (N,), in grey levels, of each (N, 3, H, W) uint8 image to the nearest of the training
    set's.
    """
    flat = training.flatten(1).float()
    squares = flat.square().sum(dim=1)
    distances = []
    for batch in images.flatten(1).float().split(batch_size):
        nearest = (squares - 2 * batch @ flat.T).argmin(dim=1)
        distances.append((batch - flat[nearest]).square().mean(dim=1).sqrt())
    return torch.cat(distances)


def judges() -> dict[str, Path]:
    """Our own judge and, where there is one, the given judge's weights by name."""
    given = judge.find_weights()
    return {"own": judge.OWN} | ({} if given == judge.OWN else {"given": given})


def as_row(weights: Path, options: SampleOptions) -> dict[str, Any]:
    """What a row of a CSV says of the weights and options."""
    return {
        "weights": weights_id(weights),
        **to_json(options),
        "guidance_interval": "{}-{}".format(*options.guidance_interval),
    }


def seed_scores(
    model: UNet, options: SampleOptions, images: Sequence[ImageSpec], reference: Reference | None
) -> dict[str, float]:
    """Each judge's accuracy on the images of one seed and, with a reference, their quality and variety."""
    specs, pictures = zip(*sample_images(model, options, images, batch_size=100))
    digits, labels = torch.stack(pictures).cpu(), torch.tensor([spec.label for spec in specs])
    scores = {f"{name}_judge": accuracy(digits, labels, weights) for name, weights in judges().items()}
    if reference is not None:
        scores |= reference.scores(digits, labels)
    return scores


def print_means(rows: Sequence[dict[str, float]]) -> None:
    """The mean of each score over the seeds that have it, and the worst."""
    for name in SCORES:
        values = [row[name] for row in rows if name in row]
        if not values:
            continue
        worst = max(values) if name == "fid768" else min(values)
        print(f"{name}: mean of {len(values)} seeds {np.mean(values):.4f}, worst {worst:.4f}")


def evaluate_seeds(arguments: argparse.Namespace, options: SampleOptions, reference: Reference | None) -> None:
    """Sample and judge every seed's graded images, print the scores, and keep them where --out says."""
    check_range("--seeds", arguments.seeds, 0)
    check_range("--per-digit", arguments.per_digit, 1, 999)
    device = choose_device(arguments.device)
    options = replace(options, precision=usable_precision(device, options.precision))
    specs = digits_by_number(arguments.per_digit, 0)
    model = load_denoiser(arguments.weights, specs, guided=options.guidance_scale != 1).to(device)
    kept, rows = Measurements(arguments.out) if arguments.out else None, []
    for seed in arguments.seeds:
        images = digits_by_number(arguments.per_digit, seed)
        setting = {**as_row(arguments.weights, options), "seed": seed, "images": len(images)}
        row = kept.find(setting) if kept else None
        if row is None:
            row = {**setting, **seed_scores(model, options, images, reference)}
            if kept:
                kept.add(row)
        rows.append({name: row[name] for name in SCORES if not np.isnan(row.get(name, np.nan))})
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in rows[-1].items()), flush=True)
    print_means(rows)


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
    for name, weights in judges().items():
        print(f"{name} judge's accuracy {accuracy(images, labels, weights):.4f}")
    if not arguments.data:
        return 0
    found = reference.scores(images, labels)
    print(f"against {len(val)} val images: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    training = load_digits(arguments.data, "train.csv").images
    drawn = val[torch.randperm(len(val), generator=generator(0))[: len(images)]]
    for name, some in (("these", images), ("as many val", drawn)):
        distance = nearest_distance(some, training).numpy()
        low, middle = np.quantile(distance, [0, 0.5])
        print(f"nearest training image of {name} images: closest {low:.2f}, median {middle:.2f} grey levels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
