"""Random views of digit batches (B, 3, 28, 28) in [-1, 1], every image its own; randomness is torch's global generator.

`weak` and `strong` compute in float32 under autocast too: bf16 would round positions to a twentieth of a pixel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """One number per image: (B,)."""
    return torch.empty(len(x), device=x.device).uniform_(low, high)


def random_affine(x: Tensor, *, degrees: float, scale: float, shear: float, shift: float) -> Tensor:
    """Rotate by up to +-degrees, zoom each axis by 1 +- scale, shear by +-shear, move by +-shift; edges repeat."""
    angle = uniform(x, -degrees, degrees) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
    zero = torch.zeros_like(cos)
    stretch = torch.stack(
        [
            torch.stack([1 + uniform(x, -scale, scale), uniform(x, -shear, shear)], 1),
            torch.stack([zero, 1 + uniform(x, -scale, scale)], 1),
        ],
        1,
    )
    move = torch.stack([uniform(x, -shift, shift), uniform(x, -shift, shift)], 1) * (2 / x.shape[-1])
    matrix = torch.cat([rotation @ stretch, move[:, :, None]], dim=2)
    positions = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, positions, mode="bilinear", padding_mode="border", align_corners=False)


def random_inversion(x: Tensor) -> Tensor:
    """Negate half of the images: dark on bright and bright on dark are the same digit."""
    return x * (uniform(x, -1, 1).sign())[:, None, None, None]


def random_colour(x: Tensor, *, strength: float) -> Tensor:
    """Mix the channels by a random matrix near the identity, and turn a quarter of the images grey."""
    mixing = torch.eye(3, device=x.device) + strength * torch.randn(len(x), 3, 3, device=x.device)
    mixing = mixing / mixing.sum(dim=2, keepdim=True).abs().clamp(min=0.5)
    grey = torch.rand(len(x), device=x.device) < 0.25
    return torch.einsum("bij,bjhw->bihw", mixing.masked_fill(grey[:, None, None], 1 / 3), x)


def random_noise(x: Tensor, *, largest: float) -> Tensor:
    """Add Gaussian noise of a random strength per image."""
    return x + uniform(x, 0, largest)[:, None, None, None] * torch.randn_like(x)


def random_neighbours(x: Tensor, *, probability: float, widest: int = 8, margin: int = 4) -> Tensor:
    """Overwrite a side's outer columns with the near part of another digit of the batch, as house numbers have it."""
    size = x.shape[-1]
    columns = torch.arange(size, device=x.device)
    for side in ("left", "right"):
        other = x[torch.randperm(len(x), device=x.device)]
        width = (uniform(x, 1, widest + 1).floor() * (uniform(x, 0, 1) < probability)).long()[:, None]  # (B, 1)
        if side == "left":
            inside, origin = columns < width, columns + size - margin - width
        else:
            inside, origin = columns >= size - width, columns - size + width + margin
        index = origin.clamp(0, size - 1)[:, None, None, :].expand_as(x)
        x = torch.where(inside[:, None, None, :], other.gather(3, index), x)
    return x


def weak(x: Tensor) -> Tensor:
    """A small change of position only: what the teacher sees."""
    with torch.autocast(x.device.type, enabled=False):
        return random_affine(x, degrees=0, scale=0.05, shear=0, shift=1)


def strong(x: Tensor) -> Tensor:
    """Position, shape, polarity, colour and noise: what the student learns from."""
    with torch.autocast(x.device.type, enabled=False):
        x = random_affine(x, degrees=12, scale=0.2, shear=0.2, shift=2.5)
        return random_noise(random_inversion(random_colour(x, strength=0.2)), largest=0.15)
