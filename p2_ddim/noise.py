"""Starting noises for those who have none: NAME.pt, float32 tensors (1, 3, size, size), each from a seed of its own.

python3 -m p2_ddim.noise NOISE_DIR --count 10 --size 32
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoint import load_tensors, save_tensors
from common.cli import UserError, command, some_path, wrote
from common.config import check_range
from common.files import visible_files
from common.rng import per_sample_noise, step_seed

MOST_NUMBERS = 3 * 4096**2  # of one noise; a network's maps take a hundred times the room


def seeded_noises(count: int, size: int, *, seed: int = 0) -> Tensor:
    """(count, 3, size, size) float32; row i depends on (seed, i) and the size alone.

    Raises UserError for a size that 32 doesn't divide.
    """
    if size < 32 or size % 32:
        raise UserError(f"--size {size}: give a multiple of 32")
    return per_sample_noise([step_seed(seed, i) for i in range(count)])(torch.empty(count, 3, size, size))


def write_noises(folder: Path, count: int, size: int, *, seed: int = 0) -> None:
    """The same as files 00.pt, 01.pt, ..., with as many digits as the last one needs."""
    digits = max(2, len(str(count - 1)))
    for i, noise in enumerate(seeded_noises(count, size, seed=seed)):
        save_tensors(folder / f"{i:0{digits}d}.pt", noise[None].clone())


def noise_files(folder: Path) -> list[Path]:
    """The noises in a folder, or in the one below that has some (`visible_files`)."""
    return visible_files(folder, {".pt"}, kind="noises")


def read_noise(path: Path) -> Tensor:
    """A starting noise (1, 3, H, W) float32. Raises UserError for anything else."""
    noise = load_tensors(path)
    if not isinstance(noise, Tensor) or not noise.is_floating_point() or noise.is_meta:
        raise UserError(f"{path}: holds no float tensor; a noise is a tensor (1, 3, 256, 256)")
    if noise.numel() > MOST_NUMBERS:
        raise UserError(f"{path}: shape {tuple(noise.shape)}; give at most {MOST_NUMBERS} numbers")
    noise = noise.to_dense().float()
    noise = noise[None] if noise.ndim == 3 else noise
    if noise.ndim != 4 or noise.shape[:2] != (1, 3) or noise.shape[2] % 32 or noise.shape[3] % 32 or not noise.numel():
        raise UserError(f"{path}: shape {tuple(noise.shape)}; a noise is (1, 3, H, W) with H and W multiples of 32")
    if not noise.isfinite().all():
        raise UserError(f"{path}: holds values that are not finite in float32")
    return noise


def starting_noises(folder: Path | None, size: int, count: int) -> Tensor:
    """The first noises (count, 3, H, W) of a folder, or from a seed. Raises UserError where there are too few."""
    if folder is None:
        return seeded_noises(count, size)
    paths = noise_files(folder)[:count]
    if len(paths) < count:
        raise UserError(f"{folder}: {len(paths)} noise files (*.pt), but {count} are wanted")
    return torch.cat([read_noise(path) for path in paths])


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noise_dir", type=some_path, help="folder to write to")
    parser.add_argument("--count", type=int, default=10, help="noises (default: 10)")
    parser.add_argument("--size", type=int, default=32, help="side, a multiple of 32 (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="from which every noise's seed comes (default: 0)")
    arguments = parser.parse_args(argv)
    check_range("--count", arguments.count, 1)
    check_range("--seed", arguments.seed, 0)
    write_noises(arguments.noise_dir, arguments.count, arguments.size, seed=arguments.seed)
    wrote(arguments.noise_dir, f"{arguments.count} noises")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
