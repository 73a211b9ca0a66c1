"""How near one image set is to another: FID, KID, density and coverage on Inception-v3's features.

python3 -m common.fid IMAGES REFERENCE --cache runs/features
python3 -m common.fid runs/images mnist.npz                     FID alone, where that file has mu and sigma
python3 -m common.fid runs/faces32 celeba64.npz:0:4000 --size 32

A set is a folder of pictures or a .npz with images (N, H, W, 3), of which PATH:FIRST:END takes a part, in order of
name. The second line printed is what two real sets of that size have. The network (common/inception.py) is
pytorch-fid's with 2048 features; --dims 768 compares earlier ones, FID-768. Never compare one with the other.

Sources: Heusel et al. 2017 (FID); Bińkowski et al. 2018 (KID); Naeem et al. 2020 (density and coverage).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.cli import UserError, command, some_path
from common.config import check_range
from common.images import read_pictures
from common.inception import DIMS, features, find_network
from common.zips import check_sums

NEIGHBOURS = 5  # Naeem et al. 2020, section 5.1
CHUNK = 1000  # rows of features whose distances are in memory at once


Moments = tuple[np.ndarray, np.ndarray]  # mean (F,), covariance (F, F), float64


def moments(features: np.ndarray) -> Moments:
    """Of features (N, F)."""
    return features.mean(0, dtype=np.float64), np.cov(features.astype(np.float64), rowvar=False)


def distance_of_moments(a: Moments, b: Moments) -> float:
    """FID of two sets' moments.

    The trace of the root of C_a C_b is that of C_a^1/2 C_b C_a^1/2, whose eigenvalues are real and not negative.

    Source: Heusel et al. 2017, equation 6.
    """
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(min=0))
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID of two sets of features (N, F), (M, F). Biased upwards where a set is small."""
    return distance_of_moments(moments(a), moments(b))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID of two sets of features (N, F), (M, F): the squared maximum mean discrepancy under the kernel
    (x·y / F + 1)^3, unbiased, so that it may be negative and small sets may be compared.

    Source: Bińkowski et al. 2018, section 4; the estimator, Gretton et al. 2012, lemma 6.
    """
    x, y = (torch.from_numpy(f).double() for f in (a, b))

    def kernel_sum(p: torch.Tensor, q: torch.Tensor) -> float:
        return sum(float((rows @ q.T / p.shape[1] + 1).pow(3).sum()) for rows in p.split(CHUNK))

    def mean_of_pairs(p: torch.Tensor) -> float:
        alone = float((p.square().sum(1) / p.shape[1] + 1).pow(3).sum())
        return (kernel_sum(p, p) - alone) / (len(p) * (len(p) - 1))

    return mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel_sum(x, y) / (len(x) * len(y))


def density_and_coverage(
    generated: np.ndarray, real: np.ndarray, *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """How densely real images are surrounded by generated ones, and the share of real images that have one near, of
    features.

    Near means within a real image's distance to its `neighbours`-th nearest real one. Density is 1 in the mean and
    coverage 1 - 2 ** -neighbours, about, for two sets of equal size from one distribution, less where fewer are
    generated.

    Raises:
        UserError: no more real images than `neighbours`.

    Source: Naeem et al. 2020, section 3.
    """
    if len(real) <= neighbours:
        raise UserError(f"coverage needs more than {neighbours} real images, not {len(real)}")
    ours, theirs = torch.from_numpy(generated), torch.from_numpy(real)
    inside, covered = 0, 0
    for some in theirs.split(CHUNK):
        radius = torch.cdist(some, theirs).kthvalue(neighbours + 1, dim=1, keepdim=True).values  # the nearest is itself
        near = torch.cdist(some, ours) < radius
        inside += int(near.sum())
        covered += int(near.any(dim=1).sum())
    return inside / (neighbours * len(ours)), covered / len(theirs)


def quality(images: np.ndarray, reference: np.ndarray, cache: Path | None = None) -> dict[str, float]:
    """FID-768, density and coverage of (N, H, W, 3) uint8 images against the features of real ones.

    Warns where these or those are too few for FID.
    """
    ours = features(images, cache)
    warn_of_few(min(len(ours), len(reference)), ours.shape[1])
    density, coverage = density_and_coverage(ours, reference)
    return {"fid768": frechet_distance(ours, reference), "density": density, "coverage": coverage}


def read_set(argument: str, size: int | None) -> np.ndarray:
    """PATH or PATH:FIRST:END, the pictures' middle squares at a size if given: (N, H, W, 3) uint8."""
    part = re.fullmatch(r"(.+):(\d+):(\d+)", argument)
    path, first, end = (part[1], int(part[2]), int(part[3])) if part else (argument, 0, None)
    images = read_pictures(Path(path), size)[first:end].permute(0, 2, 3, 1).numpy()
    if len(images) < 2 or end is not None and len(images) < end - first:
        raise UserError(f"{argument}: {len(images)} pictures; give at least two, and a part that is there")
    return images


def read_moments(argument: str) -> Moments | None:
    """Mean and covariance (mu, sigma) that a .npz has, or None where it is another or none."""
    try:
        check_sums(Path(argument))
        with np.load(argument) as content:
            return content["mu"], content["sigma"]
    except Exception:  # NumPy, zipfile and zlib raise a dozen kinds; read_set says what is wrong
        return None


def named_fid(distance: float, dims: int, *sizes: int) -> str:
    """FID with its number of features, and called rank-deficient where a set has no more images than that."""
    return f"FID-{dims} {distance:.4f}" + (" (rank-deficient)" if min(sizes) <= dims else "")


def measured(ours: np.ndarray, real: np.ndarray) -> str:
    """All measures of one set of features against another, and the sets' sizes."""
    density, coverage = density_and_coverage(ours, real)
    distance = named_fid(frechet_distance(ours, real), ours.shape[1], len(ours), len(real))
    return (
        f"{distance}, KID {kernel_distance(ours, real):.6f}, "
        f"density {density:.3f}, coverage {coverage:.3f}, N = {len(ours)} against {len(real)}"
    )


def two_real_sets(real: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Two disjoint random sets of real images' features, of `count` each or as many as there are; None of few."""
    count = min(count, len(real) // 2)
    if count <= NEIGHBOURS:
        return None
    order = np.random.RandomState(0).permutation(len(real))
    return real[order[:count]], real[order[count : 2 * count]]


def real_pair(real: np.ndarray, count: int) -> str:
    """The same measures of two real sets."""
    pair = two_real_sets(real, count)
    return measured(*pair) if pair else "too few real images"


def warn_of_few(count: int, dims: int) -> None:
    if count <= dims:
        print(
            f"warning: {count} images for {dims} features: their covariance is rank-deficient, FID far too high; "
            f"give more than {dims}, or compare KID",
            file=sys.stderr,
        )


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="PATH or PATH:FIRST:END")
    parser.add_argument("reference", help="PATH or PATH:FIRST:END, or a .npz of mu and sigma")
    parser.add_argument("--dims", type=int, choices=DIMS, help="features (default: 2048, or 768 where these lack)")
    parser.add_argument("--size", type=int, help="bring both sets to this side first (default: as they are)")
    parser.add_argument("--cache", type=some_path, help="folder in which features are kept between calls")
    arguments = parser.parse_args(argv)
    if arguments.size is not None:
        check_range("--size", arguments.size, 8)
    given = read_moments(arguments.reference)
    network = find_network(arguments.dims or (len(given[0]) if given else None))  # before the pictures are read
    if given and len(given[0]) != network.dims:
        raise UserError(f"{arguments.reference}: of {len(given[0])} features, but --dims is {network.dims}")
    ours = features(read_set(arguments.images, arguments.size), arguments.cache, network)
    if given:
        distance = distance_of_moments(moments(ours), given)
        print(f"{named_fid(distance, network.dims, len(ours))}, N = {len(ours)} against {arguments.reference}")
        print("real against real: not to be had from moments; give the pictures")
    else:
        real = features(read_set(arguments.reference, arguments.size), arguments.cache, network)
        print(measured(ours, real))
        print(f"real against real: {real_pair(real, len(ours))}")
        warn_of_few(len(real), network.dims)
    warn_of_few(len(ours), network.dims)
    print(f"features: {network.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
