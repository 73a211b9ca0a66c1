"""Interpolation between two starting noises."""

import torch
from torch import Tensor


def lerp(z_0: Tensor, z_1: Tensor, w: float) -> Tensor:
    """(1 - w) z_0 + w z_1, any shape. Of two independent Gaussians the norm shrinks to 0.71 at w = 0.5."""
    return (1 - w) * z_0 + w * z_1


def slerp(z_0: Tensor, z_1: Tensor, w: float) -> Tensor:
    """Spherical interpolation of two tensors taken as vectors: z_0 at w = 0, z_1 at w = 1; keeps a common norm.

    Parallel vectors, which span no arc, are interpolated linearly; so are opposite ones, whose arc is not unique.

    Source: Shoemake 1985, as in Song et al. 2021 (DDIM), appendix D.5.
    """
    a, b = z_0.double(), z_1.double()
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if not angle.sin() > 1e-6:
        return lerp(z_0, z_1, w)
    return ((torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / angle.sin()).to(z_0)
