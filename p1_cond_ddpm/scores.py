"""Scores of digits by the judges, quality (common.fid) and variety of strokes (strokes.py), also of real ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from common.digits import DigitSet
from common.fid import quality
from common.images import to_unit_range
from common.inception import features
from p1_cond_ddpm import judge
from p1_cond_ddpm.strokes import CLASSES, REFERENCE, comparable, load_stroke_net, real_shapes, stroke_maps, variety

SCORES = (
    "own_judge",
    "given_judge",
    "fid768",
    "stroke_coverage",
    "stroke_density",
    "spread",
    "slant",
    "ink",
    "nearest",
)
REAL = "real"  # in place of weights in a CSV
REAL_SETS = 6


def real_row(images: int) -> dict[str, Any]:
    """What a row of a CSV says of so many real images: 0 in columns of whole numbers, False where there is no blank."""
    return {
        "weights": REAL,
        "num_steps": 0,
        "early_steps": 0,
        "detail_steps": 0,
        "guidance_every": 0,
        "guidance_head": False,
        "seed": 0,
        "images": images,
    }


class Reference:
    """Real images: what quality and, where there are labels, variety are measured against."""

    def __init__(self, images: Tensor, labels: Tensor | None, cache: Path | None):
        self.cache = cache
        self.features = features(images.permute(0, 2, 3, 1).numpy(), cache)
        self.network = load_stroke_net()
        self.digits = None if labels is None else DigitSet(images, labels)
        self.shapes = [] if self.digits is None else real_shapes(self.network, self.digits)

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Quality and variety of (N, 3, 28, 28) uint8 images."""
        return quality(images.permute(0, 2, 3, 1).numpy(), self.features) | self.variety(images, labels)

    def quality(self, real: Tensor) -> dict[str, float]:
        """That of other real images (N, 3, 28, 28) uint8, whose features are kept, too."""
        return quality(real.permute(0, 2, 3, 1).numpy(), self.features, self.cache)

    def variety(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Empty where a digit has too few images."""
        if not self.shapes or not comparable(labels, self.shapes):
            return {}
        return variety(stroke_maps(self.network, images), labels, self.shapes)

    def real_sets(self, per_digit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to REAL_SETS sets of the real images whose shapes nothing is compared with."""
        if self.digits is None:
            return
        labels = self.digits.labels
        spare = [torch.nonzero(labels == digit)[REFERENCE:, 0].split(per_digit) for digit in range(CLASSES)]
        for parts in list(zip(*spare))[:REAL_SETS]:
            if all(len(part) == per_digit for part in parts):
                rows = torch.cat(parts)
                yield self.digits.images[rows], labels[rows]

    def real_scores(self, per_digit: int, judge: Callable[[Tensor, Tensor], dict[str, float]]) -> dict[str, float]:
        """The mean over sets of real images of what `judge` says and of variety; nothing where these are too few.

        Quality is left out: the images are among those that it compares with.
        """
        found = [judge(*some) | self.variety(*some) for some in self.real_sets(per_digit)]
        return {str(name): value for name, value in pd.DataFrame(found).mean().items()}


@torch.inference_mode()
def accuracy(images: Tensor, labels: Tensor, weights: Path) -> float:
    """Share of (N, 3, 28, 28) uint8 images that a judge takes for their label."""
    logits = judge.load(weights)(to_unit_range(images))
    return (logits.argmax(dim=1) == labels).float().mean().item()


def judges() -> dict[str, Path]:
    """Our own judge and, where there is one, the given judge's weights by name."""
    given = judge.find_weights()
    return {"own": judge.OWN} | ({} if given == judge.OWN else {"given": given})


def judged(images: Tensor, labels: Tensor) -> dict[str, float]:
    """Each judge's accuracy."""
    return {f"{name}_judge": accuracy(images, labels, weights) for name, weights in judges().items()}
