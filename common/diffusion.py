"""Noise schedules, timesteps and samplers, for any denoiser.

Notation: x_0 clean, x_t noised, x_T starting noise, all in [-1, 1] units; t in 0..T-1, 0 the least noise;
alphas_cumprod = abar, so that x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from common.rng import RandnLike

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, H, W), t (B,) int64) -> eps or v (B, C, H, W)


@dataclass(frozen=True)
class NoiseSchedule:
    alphas_cumprod: Tensor  # (T,) float64, falling

    @classmethod
    def linear(cls, num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> "NoiseSchedule":
        """beta rises linearly, between the same bounds for any number of timesteps.

        Source: Ho et al. 2020 (DDPM), section 4.
        """
        betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float64)
        return cls(torch.cumprod(1 - betas, dim=0))

    @classmethod
    def cosine(cls, num_timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> "NoiseSchedule":
        """abar falls like a squared cosine. Source: Nichol & Dhariwal 2021, equation 17."""
        steps = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
        curve = torch.cos((steps + offset) / (1 + offset) * math.pi / 2).square()
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=max_beta)
        return cls(torch.cumprod(1 - betas, dim=0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device) -> "NoiseSchedule":
        """The same with its levels on a device, where timesteps then index it without a detour over the CPU."""
        return NoiseSchedule(self.alphas_cumprod.to(device))

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t), sqrt(1 - abar_t) for t (B,) int64 beside the levels: two (B, 1, 1, 1) like `like`."""
        abar = self.alphas_cumprod[t].reshape(-1, *[1] * (like.ndim - 1))
        return abar.sqrt().to(like), (1 - abar).sqrt().to(like)

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Sample q(x_t | x_0). Source: Ho et al. 2020, equation 4."""
        signal, sigma = self.signal_and_noise(t, x_0)
        return signal * x_0 + sigma * noise

    def velocity(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0. Source: Salimans & Ho 2022, section 4."""
        signal, sigma = self.signal_and_noise(t, x_0)
        return signal * noise - sigma * x_0


def stratified_timesteps(count: int, num_timesteps: int, device: torch.device | None = None) -> Tensor:
    """`count` uniform timesteps, one per equal part of the range: (count,) int64.

    Source: Kingma et al. 2021, appendix I.1.
    """
    position = (torch.rand((), device=device) + torch.arange(count, device=device) / count) % 1
    return (position * num_timesteps).long().clamp(max=num_timesteps - 1)


def ddim_timesteps(num_timesteps: int, num_steps: int, *, offset: int = 0) -> list[int]:
    """`num_steps` evenly spaced timesteps, from large to small: offset + k num_timesteps / num_steps, rounded down.

    Raises:
        ValueError: num_steps is not in 1..num_timesteps, or the offset leads out of 0..num_timesteps-1.

    Source: Song et al. 2021 (DDIM), appendix D.2 (linear selection).
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"{num_steps} steps of {num_timesteps} timesteps: give 1 to {num_timesteps}")
    timesteps = [offset + k * num_timesteps // num_steps for k in reversed(range(num_steps))]
    if timesteps[-1] < 0 or timesteps[0] >= num_timesteps:
        raise ValueError(f"offset {offset}: timesteps {timesteps[-1]} to {timesteps[0]} leave 0 to {num_timesteps - 1}")
    return timesteps


def trailing_timesteps(
    num_timesteps: int, num_steps: int, *, spacing: float = 1.0, early_steps: int = 0, detail_steps: int = 0
) -> list[int]:
    """`num_steps` distinct timesteps from the noisiest down: T (k / num_steps) ** spacing - 1 for k = num_steps, ...,
    1, rounded. `early_steps` more follow the first: each halves what is left of the way from the second to the first.
    `detail_steps` more end the list, each at half the timestep before. Timesteps that would repeat are left out.

    spacing 1 is even; below 1 the steps are small where there is much noise, above 1 where there is little.

    Raises:
        ValueError: num_steps is not in 1..num_timesteps, or so many steps don't fit with this spacing.

    Source: Lin et al. 2024 (Common diffusion noise schedules and sample steps are flawed), section 3.3, for spacing 1.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"{num_steps} steps of {num_timesteps} timesteps: give 1 to {num_timesteps}")
    timesteps = [round(num_timesteps * (k / num_steps) ** spacing) - 1 for k in range(num_steps, 0, -1)]
    if timesteps[-1] < 0 or len(set(timesteps)) < num_steps:
        raise ValueError(
            f"{num_steps} steps of {num_timesteps} timesteps with spacing {spacing}: "
            "give fewer steps, or a spacing nearer 1"
        )
    first = num_timesteps - 1
    way = first - timesteps[1] if num_steps > 1 else 0
    timesteps[1:1] = [first - (way >> k) for k in range(early_steps, 0, -1) if way >> k]
    for _ in range(detail_steps):
        if timesteps[-1] > 1:
            timesteps.append(timesteps[-1] // 2)
    return timesteps


class Step(NamedTuple):
    """One step of a sampler: at timestep t the estimate of x_0, and x at the next, smaller noise level."""

    t: int
    x: Tensor
    x_0: Tensor


def _levels(
    schedule: NoiseSchedule, timesteps: Sequence[int], final_alpha_cumprod: float
) -> Iterator[tuple[int, float, float]]:
    """(t, abar at t, abar at the next timestep) of every step."""
    abars = [*schedule.alphas_cumprod[list(timesteps)].tolist(), final_alpha_cumprod]
    return zip(timesteps, abars[:-1], abars[1:])


def _estimate(denoise: Denoiser, x: Tensor, t: int, abar: float, prediction: str) -> tuple[Tensor, Tensor]:
    """(eps, x_0) from a network's eps, or from its v without the cancellation that eps brings where abar is small.

    Source: Salimans & Ho 2022, appendix D, for v.
    """
    if prediction not in ("eps", "v"):
        raise ValueError(f"prediction {prediction!r}: give 'eps' or 'v'")
    signal, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    output = denoise(x, torch.full((len(x),), t, device=x.device)).to(x.dtype)  # from networks in bf16, too
    if prediction == "v":
        return signal * output + sigma * x, signal * x - sigma * output
    return output, (x - sigma * output) / signal


def ddim(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    prediction: str = "eps",
    eta: float = 0.0,
    clip_x_0: bool = False,
    use_clipped_model_output: bool = False,
    final_alpha_cumprod: float = 1.0,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """Yield every step from x_T (B, C, H, W) down to x_0, the last step's x.

    eta = 0 is deterministic DDIM; eta = 1 over all T timesteps is DDPM's ancestral sampling. clip_x_0 clamps the
    estimate of x_0 to [-1, 1]. The direction to x_t is then eps computed anew from it with use_clipped_model_output,
    else the predicted eps, which no longer belongs to that x_0 (the homework's convention). With eta = 0 the timesteps
    may also rise, which turns images into their noises (give final_alpha_cumprod the last level). `prediction` says
    whether the network gives "eps" or "v". Coefficients are computed in float64, tensors keep x_T's dtype.

    Sources: Song et al. 2021 (DDIM), equations 12 and 16; Ho et al. 2020, their released code, for DDPM with clipping.
    """
    x = x_T
    for t, abar, abar_prev in _levels(schedule, timesteps, final_alpha_cumprod):
        eps, x_0 = _estimate(denoise, x, t, abar, prediction)
        if clip_x_0:
            x_0 = x_0.clamp(-1, 1)
            if use_clipped_model_output:
                eps = (x - math.sqrt(abar) * x_0) / math.sqrt(1 - abar)
        sigma = eta * math.sqrt((1 - abar_prev) / (1 - abar) * max(1 - abar / abar_prev, 0.0))
        x = math.sqrt(abar_prev) * x_0 + math.sqrt(max(1 - abar_prev - sigma**2, 0.0)) * eps
        if sigma > 0:
            x = x + sigma * randn_like(x)
        yield Step(t, x, x_0)


def dpm_solver_pp_2m(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    prediction: str = "eps",
    eta: float = 0.0,
    clip_x_0: bool = False,
    second_order_below: int | None = None,
    final_alpha_cumprod: float = 1.0,
    randn_like: RandnLike = torch.randn_like,
) -> Iterator[Step]:
    """Yield every step from x_T (B, C, H, W) down to x_0, like `ddim` with eps computed anew but of second order.

    Each step extrapolates the estimate of x_0 from the last two; the first step and one that ends without noise, where
    the log signal-to-noise ratio is infinite, are DDIM's, and so are those from second_order_below on, if given.
    eta = 1 adds DDPM's noise, which needs timesteps that fall.

    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2, and with eta = 1 their SDE-DPM-Solver++(2M).
    """
    x, x_0_before, h_before = x_T, None, 0.0
    for t, abar, abar_prev in _levels(schedule, timesteps, final_alpha_cumprod):
        _, x_0 = _estimate(denoise, x, t, abar, prediction)
        if clip_x_0:
            x_0 = x_0.clamp(-1, 1)
        signal, sigma, sigma_before = math.sqrt(abar_prev), math.sqrt(1 - abar_prev), math.sqrt(1 - abar)
        decay = sigma * math.sqrt(abar) / (signal * sigma_before)  # exp(-h)
        h = -math.log(decay) if decay > 0 else math.inf
        estimate = x_0
        first_order = second_order_below is not None and t >= second_order_below
        if x_0_before is not None and h < math.inf and not first_order:
            estimate = x_0 + (x_0 - x_0_before) * (h / (2 * h_before))
        kept = math.sqrt(1 - eta**2 * (1 - decay**2))  # share of the noise that is not drawn anew
        x = kept * sigma / sigma_before * x + signal * (1 - kept * decay) * estimate
        if kept < 1 and sigma > 0:
            x = x + sigma * math.sqrt(1 - kept**2) * randn_like(x)
        x_0_before, h_before = x_0, h
        yield Step(t, x, x_0)


class NotFinite(ArithmeticError):
    """A sampler met NaN or infinity: at timestep `t`, first in row `row` of its batch."""

    def __init__(self, t: int, row: int):
        super().__init__(f"not finite at t = {t}")
        self.t, self.row = t, row


def run(steps: Iterator[Step], on_step: Callable[[int], object] = lambda images: None) -> Step:
    """Run a sampler to its end and return the last step; `on_step` gets the number of images after every step.

    Raises:
        NotFinite: an image is not finite after a step.
    """
    for step in steps:
        finite = step.x.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            raise NotFinite(step.t, int(finite.int().argmin()))
        on_step(len(step.x))
    return step
