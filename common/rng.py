"""Seeds: every random number of the project is a function of (seed, step) in training, of one seed per image in
sampling.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

RandnLike = Callable[[Tensor], Tensor]


def step_seed(seed: int, *parts: int) -> int:
    """A 63-bit seed for the given part of a computation, e.g. `step_seed(seed, step, rank)`; distinct parts are
    independent.

    Source: numpy.random.SeedSequence, https://numpy.org/doc/stable/reference/random/parallel.html
    """
    return int(np.random.SeedSequence(seed, spawn_key=parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int) -> torch.Generator:
    """A CPU generator: the same numbers whatever device computes with them."""
    return torch.Generator().manual_seed(seed)


def per_sample_noise(seeds: Sequence[int]) -> RandnLike:
    """A stand-in for `torch.randn_like` whose row i depends on seeds[i] and on how often it was called, on nothing
    else.

    Returns:
        x (B, ...) -> standard normal noise of the same shape, dtype and device; B = len(seeds), else ValueError.
    """
    generators = [generator(seed) for seed in seeds]

    def randn_like(x: Tensor) -> Tensor:
        if len(x) != len(generators):
            raise ValueError(f"{len(generators)} seeds for a batch of {len(x)}")
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)

    return randn_like


def batch_at(count: int, batch_size: int, *, seed: int, step: int) -> Tensor:
    """Indices (batch_size,) int64 of the batch number `step`: each epoch is a fresh permutation of 0..count-1, its rest
    dropped.

    Raises:
        ValueError: batch_size exceeds count.
    """
    if batch_size > count:
        raise ValueError(f"batch size {batch_size} exceeds the {count} images of the data set")
    epoch, position = divmod(step, count // batch_size)
    return _epoch_order(count, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=8)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator(step_seed(seed, epoch)))
