"""How near one image set is to another: FID-768, density and coverage on Inception-v3's Mixed_6e features.

python3 -m common.fid IMAGES REFERENCE --cache runs/features
python3 -m common.fid runs/faces32 celeba64.npz:0:4000 --size 32

A set is a folder of pictures or a .npz with images (N, H, W, 3), of which PATH:FIRST:END takes a part, in order of
name. The network and its weights are not part of this repository: they are the file fid768.py under
$HW2_REAL_DATA/eval, with the weights beside it (the same features as `pytorch_fid --dims 768`). Never compare with the
usual 2048-d FID.

Sources: Heusel et al. 2017 (FID); Naeem et al. 2020 (density and coverage).
"""

import argparse
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from tqdm import tqdm

from common.cli import UserError, command, some_path
from common.config import check_range
from common.files import atomic_write, real_data
from common.images import read_pictures

BATCH = 20  # images through Inception at a time
NEIGHBOURS = 5  # Naeem et al. 2020, section 5.1


def fid768() -> ModuleType:
    """The module that computes features. Raises UserError where HW2_REAL_DATA has none."""
    path = real_data("eval/fid768.py")
    if not path:
        raise UserError("FID-768 needs eval/fid768.py and its weights in the folder that HW2_REAL_DATA names")
    spec = importlib.util.spec_from_file_location("fid768", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.inference_mode()
def features(images: np.ndarray, cache: Path | None = None) -> np.ndarray:
    """(N, H, W, 3) uint8 images -> (N, 768) float32, kept in the folder `cache` under the images' own hash."""
    stored = (
        cache / f"{hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()[:32]}.npz"
        if cache
        else None
    )
    if stored and stored.is_file():
        with suppress(Exception):  # damaged, which a checksum tells: computed anew
            return np.load(stored)["features"]
    network = fid768().Inception()
    batches = tqdm(range(0, len(images), BATCH), unit="batch", desc="features", mininterval=1.0)
    found = np.concatenate([network(images[i : i + BATCH]) for i in batches])
    if stored:
        with atomic_write(stored) as temporary, open(temporary, "wb") as file:
            np.savez(file, features=found)
    return found


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID of two sets of features (N, F), (M, F). Biased upwards where a set is small.

    The trace of the root of C_a C_b is that of C_a^1/2 C_b C_a^1/2, whose eigenvalues are real and not negative.

    Source: Heusel et al. 2017, equation 6.
    """
    (mean_a, cov_a), (mean_b, cov_b) = ((f.mean(0), np.cov(f, rowvar=False)) for f in map(np.float64, (a, b)))
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(min=0))
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


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
    for some in theirs.split(1000):
        radius = torch.cdist(some, theirs).kthvalue(neighbours + 1, dim=1, keepdim=True).values  # the nearest is itself
        near = torch.cdist(some, ours) < radius
        inside += int(near.sum())
        covered += int(near.any(dim=1).sum())
    return inside / (neighbours * len(ours)), covered / len(theirs)


def quality(images: np.ndarray, reference: np.ndarray, cache: Path | None = None) -> dict[str, float]:
    """FID-768, density and coverage of (N, H, W, 3) uint8 images against the features of real ones."""
    ours = features(images, cache)
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


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="PATH or PATH:FIRST:END")
    parser.add_argument("reference", help="PATH or PATH:FIRST:END")
    parser.add_argument("--size", type=int, help="bring both sets to this side first (default: as they are)")
    parser.add_argument("--cache", type=some_path, help="folder in which features are kept between calls")
    arguments = parser.parse_args(argv)
    if arguments.size is not None:
        check_range("--size", arguments.size, 8)
    fid768()  # before the pictures are read
    sets = [read_set(which, arguments.size) for which in (arguments.images, arguments.reference)]
    found = quality(sets[0], features(sets[1], arguments.cache), arguments.cache)
    print(f"{len(sets[0])} images against {len(sets[1])}: FID-768 {found['fid768']:.4f}, ", end="")
    print(f"density {found['density']:.3f}, coverage {found['coverage']:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
