"""Guidance: by a label's absence (classifier-free guidance), and by a worse network (autoguidance)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.diffusion import Denoiser

Interval = Sequence[int]  # first and last timestep


def within(t: Tensor, interval: Interval | None) -> bool:
    """Whether a batch's timestep (B,), the same in all rows, is in an interval; None is everywhere."""
    return interval is None or interval[0] <= int(t[0]) <= interval[1]


def guided(
    model: Any,
    labels: Tensor,
    *,
    scale: float,
    null_label: int,
    interval: Interval | None = None,
    guide: Any = None,
    guide_scale: float = 1.0,
    guide_interval: Interval | None = None,
    chroma: float = 1.0,
    every: int = 1,
    head_interval: Interval | None = None,
) -> Denoiser:
    """The v predictor of a v-network under both guidances: v_c + G, where
    G = (scale - 1) (v_c - v_u) + (guide_scale - 1) (v_c - v_g).

    v_c, v_u and v_g are the network's prediction for the labels (B,) int64, that without label, which goes through the
    network in one batch with the first, and the guide's for the labels. The first difference makes a digit more
    typical of its class and so less varied; the second removes what a better network does better, and keeps variety.
    For one x_t this is guidance of eps, which is linear in v. Of G, `chroma` scales what differs between the colour
    channels: a digit is a shape in any colour, and guidance saturates colours. A scale of 1 is off, classifier-free
    guidance also where all labels are null_label, and each outside its interval of timesteps. Both differences change
    little from call to call, so each is computed at every `every`-th call in its interval and kept in between. Such a
    predictor has a state: make a new one for each run of a sampler. In `head_interval` the model's head predicts
    v_c - v_u from the pass that gives v_c (distill.py); None is nowhere.

    Sources: Ho & Salimans 2022, equation 6, with scale = w + 1; the interval, Kynkäänniemi et al. 2024; autoguidance,
    Karras et al. 2024 (Guiding a diffusion model with a bad version of itself), equation 3; keeping the differences, Lv
    et al. 2025 (FasterCache), whose cache of guidance splits them by frequency.
    """
    off = scale == 1 or bool((labels == null_label).all())
    alone = guide is None or guide_scale == 1
    labelled = (labels != null_label)[:, None, None, None]
    calls = {"label": 0, "guide": 0}  # so far, in the interval of each
    kept: dict[str, Any] = {"label": 0.0, "guide": 0.0}  # v_c - v_u and v_c - v_g as last computed

    def due(difference: str, on: bool) -> bool:
        calls[difference] += on
        return on and (calls[difference] - 1) % every == 0

    def predict(x_t: Tensor, t: Tensor, by_label: bool, by_guide: bool) -> Tensor:
        """v_c; computes the differences that are due, too."""
        if not due("label", by_label):
            v = model(x_t, t, labels)
        elif head_interval and within(t, head_interval):
            v, difference = model(x_t, t, labels, guidance=True).chunk(2, dim=1)
            kept["label"] = labelled * difference
        else:
            both = torch.cat([labels, torch.full_like(labels, null_label)])
            v, unconditional = model(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
            kept["label"] = v - unconditional
        if due("guide", by_guide):
            kept["guide"] = v - guide(x_t, t, labels)
        return v

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        by_label, by_guide = not off and within(t, interval), not alone and within(t, guide_interval)
        if not (by_label or by_guide):
            return model(x_t, t, labels)
        v = predict(x_t, t, by_label, by_guide)
        guidance = by_label * (scale - 1) * kept["label"] + by_guide * (guide_scale - 1) * kept["guide"]
        grey = guidance.mean(dim=1, keepdim=True)
        return v + grey + chroma * (guidance - grey)

    return denoise
