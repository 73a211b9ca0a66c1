"""Judge digits: accuracy and, with --data, quality against val (common.fid) and the nearest training image.

python3 -m p1_cond_ddpm.evaluate OUT_DIR --data hw2_data/digits/mnistm --cache runs/features     images D_NNN.png
python3 -m p1_cond_ddpm.evaluate --seeds 0 1 2 3 4       what hw2_1.sh --seed N would write, and the mean over the seeds

The second takes hw2_1.sh's options, too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.cli import UserError, command, some_path
from common.config import check_range, parse_options
from common.device import choose_device
from common.digits import load_digits
from common.fid import quality
from common.images import to_unit_range
from common.inception import features
from common.rng import generator
from p1_cond_ddpm import judge
from p1_cond_ddpm.sampling import WEIGHTS, SampleOptions, digits_by_number, load_denoiser, sample_images
from p1_cond_ddpm.unet import UNet


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


def print_seeds(
    seeds: Sequence[int], model: UNet, options: SampleOptions, reference: np.ndarray | None, *, per_digit: int
) -> None:
    """A line of scores for every seed's graded images, then their mean and the worst."""
    rows = []
    for seed in seeds:
        specs, pictures = zip(*sample_images(model, options, digits_by_number(per_digit, seed), batch_size=100))
        images, labels = torch.stack(pictures).cpu(), torch.tensor([spec.label for spec in specs])
        row = {f"{name} judge": accuracy(images, labels, weights) for name, weights in judges().items()}
        if reference is not None:
            row["FID-768"] = quality(images.permute(0, 2, 3, 1).numpy(), reference)["fid768"]
        rows.append(row)
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in row.items()), flush=True)
    for name in rows[0]:
        values = [row[name] for row in rows]
        worst = max(values) if name == "FID-768" else min(values)
        print(f"{name}: mean of {len(seeds)} seeds {np.mean(values):.4f}, worst {worst:.4f}")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=some_path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", help="sample the graded images of these seeds instead")
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit and seed (default: 100)")
    parser.add_argument(
        "--weights", type=some_path, default=WEIGHTS, help="of the network to sample (default: the released)"
    )
    parser.add_argument("--data", type=some_path, help="MNIST-M's folder")
    parser.add_argument("--cache", type=some_path, help="folder that keeps val's features between calls")
    parser.add_argument("--device", default="auto")
    arguments, options = parse_options(parser, argv, SampleOptions)
    if (arguments.folder is None) == (arguments.seeds is None):
        raise UserError("give either a folder of digits or --seeds")
    if arguments.data:
        val = load_digits(arguments.data, "val.csv").images
        reference = features(val.permute(0, 2, 3, 1).numpy(), arguments.cache)
    if arguments.seeds is not None:
        check_range("--seeds", arguments.seeds, 0)
        check_range("--per-digit", arguments.per_digit, 1, 999)
        specs = digits_by_number(arguments.per_digit, 0)
        model = load_denoiser(arguments.weights, specs, guided=options.guidance_scale != 1)
        model = model.to(choose_device(arguments.device))
        real = reference if arguments.data else None
        print_seeds(arguments.seeds, model, options, real, per_digit=arguments.per_digit)
        return 0
    images, labels = judge.read_folder(arguments.folder)
    for name, weights in judges().items():
        print(f"{name} judge's accuracy {accuracy(images, labels, weights):.4f}")
    if not arguments.data:
        return 0
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
