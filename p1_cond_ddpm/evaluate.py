"""Judge a folder of digits D_NNN.png: accuracy and, with --data, FID-768, density and coverage
against val and the nearest training image.

python3 -m p1_cond_ddpm.evaluate OUT_DIR --data hw2_data/digits/mnistm --cache runs/features
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.cli import command
from common.digits import load_digits
from common.fid import features, quality
from common.images import to_unit_range
from common.rng import generator
from p1_cond_ddpm import judge


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


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="MNIST-M's folder")
    parser.add_argument("--cache", type=Path, help="folder in which val's features for FID-768 are kept between calls")
    arguments = parser.parse_args(argv)
    images, labels = judge.read_folder(arguments.folder)
    print(f"own judge's accuracy {accuracy(images, labels, judge.OWN):.4f}")
    given = judge.find_weights()
    if given != judge.OWN:
        print(f"given judge's accuracy {accuracy(images, labels, given):.4f}")
    if not arguments.data:
        return 0
    val = load_digits(arguments.data, "val.csv").images
    reference = features(val.permute(0, 2, 3, 1).numpy(), arguments.cache)
    found = quality(images.permute(0, 2, 3, 1).numpy(), reference)
    print(f"FID-768 to {len(val)} val images {found['fid768']:.4f}, ", end="")
    print(f"density {found['density']:.3f}, coverage {found['coverage']:.3f}")
    training = load_digits(arguments.data, "train.csv").images
    drawn = val[torch.randperm(len(val), generator=generator(0))[: len(images)]]
    for name, some in (("these", images), ("as many val", drawn)):
        distance = nearest_distance(some, training).numpy()
        low, middle = np.quantile(distance, [0, 0.5])
        print(f"nearest training image of {name} images: closest {low:.2f}, median {middle:.2f} grey levels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
