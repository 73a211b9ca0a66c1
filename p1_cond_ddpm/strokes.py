"""Variety of digit shapes, which FID-768 hardly sees: the strokes of a set of images against those of real ones.

A small network finds the stroke in an MNIST-M image (train_strokes.py); shapes are compared class by class.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoint import CHECKPOINTS, load_weights
from common.cli import UserError
from common.digits import DigitSet
from common.fid import NEIGHBOURS, density_and_coverage
from common.images import to_unit_range

WEIGHTS = CHECKPOINTS / "strokes.pt"
REFERENCE = 400  # real images of each digit
CLASSES = 10


class ConvNorm(nn.Sequential):
    """(B, inputs, H, W) -> (B, width, H, W)."""

    def __init__(self, inputs: int, width: int):
        super().__init__(nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class StrokeNet(nn.Module):
    """(B, 3, 28, 28) in [-1, 1] -> logits (B, 28, 28) of being part of the stroke.

    Source: Ronneberger et al. 2015 (U-Net), with two levels and batch normalisation.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.fine = nn.Sequential(ConvNorm(3, width), ConvNorm(width, width))
        self.middle = nn.Sequential(ConvNorm(width, 2 * width), ConvNorm(2 * width, 2 * width))
        self.coarse = ConvNorm(2 * width, 4 * width)
        self.up_middle = ConvNorm(6 * width, 2 * width)
        self.up_fine = ConvNorm(3 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)  # (B, w, 28, 28)
        middle = self.middle(F.max_pool2d(fine, 2))  # (B, 2w, 14, 14)
        coarse = self.coarse(F.max_pool2d(middle, 2))  # (B, 4w, 7, 7)
        h = self.up_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        h = self.up_fine(torch.cat([F.interpolate(h, scale_factor=2.0), fine], dim=1))
        return self.out(h)[:, 0]


def load_stroke_net(path: Path = WEIGHTS) -> StrokeNet:
    """Raises UserError where the file isn't of this network."""
    model = StrokeNet()
    try:
        model.load_state_dict(load_weights(path).state_dict)
    except RuntimeError:
        raise UserError(f"{path}: not the stroke network's weights; give {WEIGHTS}") from None
    return model.eval()


@torch.inference_mode()
def stroke_maps(model: StrokeNet, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """Probability (N, 28, 28) of being part of the stroke, of (N, 3, 28, 28) uint8 images."""
    return torch.cat([model(to_unit_range(batch)).sigmoid() for batch in images.split(batch_size)])


def slant_and_ink(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Of (N, H, W) maps: columns by which the stroke moves per row (N,), and its area in pixels (N,)."""
    ink = maps.sum(dim=(1, 2)).clamp(min=1)
    rows, columns = (torch.arange(size, dtype=maps.dtype) for size in maps.shape[1:])
    y = rows[:, None] - ((maps.sum(dim=2) * rows).sum(dim=1) / ink)[:, None, None]
    x = columns - ((maps.sum(dim=1) * columns).sum(dim=1) / ink)[:, None, None]
    return (maps * x * y).sum(dim=(1, 2)) / (maps * y.square()).sum(dim=(1, 2)).clamp(min=1e-3), ink


def real_shapes(model: StrokeNet, digits: DigitSet) -> list[Tensor]:
    """Maps of the first REFERENCE images of every digit, or of as many as there are."""
    rows = [torch.nonzero(digits.labels == digit)[:REFERENCE, 0] for digit in range(CLASSES)]
    return [stroke_maps(model, digits.images[some]) for some in rows]


def comparable(labels: Tensor, real: list[Tensor]) -> bool:
    """Whether every digit has shapes enough for `variety`: two, and more real ones than neighbours are looked for."""
    counts = torch.bincount(labels, minlength=CLASSES)[:CLASSES]
    return bool(counts.min() >= 2) and min(map(len, real)) > NEIGHBOURS


def variety(maps: Tensor, labels: Tensor, real: list[Tensor]) -> dict[str, float]:
    """Shapes (N, 28, 28) with labels (N,) against `real_shapes`: means over the digits of five figures.

    stroke_coverage and stroke_density by `common.fid`, in the space of lightly blurred maps; spread, the mean distance
    of two shapes of a digit; slant and ink, their standard deviations. The last three are over the same of real shapes:
    1 is as varied as real.

    Raises:
        UserError: a digit has fewer than two shapes, or too few real ones.
    """
    found = []
    for digit, theirs in enumerate(real):
        ours = maps[labels == digit]
        if len(ours) < 2:
            raise UserError(f"{len(ours)} images of digit {digit}: strokes are compared with two or more of each digit")
        points, real_points = (F.avg_pool2d(some[:, None], 3, 1, 1).flatten(1) for some in (ours, theirs))
        density, coverage = density_and_coverage(points.numpy(), real_points.numpy())
        (slant, ink), (real_slant, real_ink) = slant_and_ink(ours), slant_and_ink(theirs)
        spread = torch.pdist(points).mean() / torch.pdist(real_points).mean()
        ratios = [float(spread), float(slant.std() / real_slant.std()), float(ink.std() / real_ink.std())]
        found.append([coverage, density, *ratios])
    names = ("stroke_coverage", "stroke_density", "spread", "slant", "ink")
    return dict(zip(names, torch.tensor(found).mean(dim=0).tolist()))
