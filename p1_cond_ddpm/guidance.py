"""Classifier-free guidance."""

from typing import Any

import torch
from torch import Tensor

from common.diffusion import Denoiser


def guided(
    model: Any, labels: Tensor, *, scale: float, null_label: int, interval: tuple[int, int] | None = None
) -> Denoiser:
    """The v predictor of a v-network under classifier-free guidance: v_u + scale (v_c - v_u); scale 1 = off.

    For one x_t this is guidance of eps, which is linear in v. Both branches go through the network as one batch. labels
    (B,) int64; where all are null_label, the branches are one. Where an interval of timesteps (first, last) is given,
    guidance is off outside it, which keeps variety and saves the second branch; the batch's t must then be equal.

    Source: Ho & Salimans 2022, equation 6, with scale = w + 1; the interval, Kynkäänniemi et al. 2024.
    """
    off = scale == 1 or bool((labels == null_label).all())

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if off or (interval and not interval[0] <= t[0] <= interval[1]):
            return model(x_t, t, labels)
        both = torch.cat([labels, torch.full_like(labels, null_label)])
        conditional, unconditional = model(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return denoise
