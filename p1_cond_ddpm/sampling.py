"""Digits from problem 1's network, from Python. An image's noise comes from a seed of its own, so it is the same in any
batch.

from p1_cond_ddpm import load_denoiser, sample_digits
sevens = sample_digits(load_denoiser(), labels=[7, 7, 7], seeds=[0, 1, 2])  # (3, 3, 28, 28) uint8
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from common.checkpoint import CHECKPOINTS, load_network, load_weights
from common.cli import UserError
from common.config import option
from common.device import autocast, on_cores, usable_precision
from common.diffusion import NotFinite, Step, ddim, dpm_solver_pp_2m, run, trailing_timesteps
from common.digits import NULL_LABEL, SIZE
from common.images import to_uint8
from common.processes import is_main_process
from common.rng import RandnLike, per_sample_noise, step_seed
from p1_cond_ddpm.guidance import guided
from p1_cond_ddpm.unet import UNet, UNetConfig
from p1_cond_ddpm.winograd import use_winograd

WEIGHTS = CHECKPOINTS / "p1_mnistm.pt"
SAMPLERS = ("sde", "dpm", "ddpm", "ddim", "mixed")
MIXED_BELOW = 500  # shapes are decided above, textures below
INTERVALS = ("guidance_interval", "autoguidance_interval")  # of the options


def check_interval(flag: str, interval: Sequence[int]) -> None:
    """Raise UserError unless it has two timesteps, in order."""
    if len(interval) != 2:
        raise UserError(f"{flag}: give two timesteps, the first and the last, not {len(interval)}")
    if interval[0] > interval[1]:
        raise UserError(f"{flag} {interval[0]} {interval[1]}: give the smaller timestep first")


@dataclass(frozen=True)
class SampleOptions:
    """Sampling; the defaults are the graded images'."""

    sampler: str = option(
        "mixed",
        f"SDE-DPM-Solver++(2M), DPM-Solver++(2M), DDPM, DDIM with eta = 0, or ddpm and from t = {MIXED_BELOW} down sde",
        choices=SAMPLERS,
    )
    num_steps: int = option(15, "steps", smallest=1, largest=1000)
    spacing: float = option(
        0.5, "1 = even steps, less = smaller steps where there is much noise", smallest=0.1, largest=10
    )
    early_steps: int = option(
        0,
        "further steps after the first, which halve the way to the second: mean colour, by sde or dpm",
        smallest=0,
        largest=10,
    )
    detail_steps: int = option(
        0, "further steps at the end, each at half the timestep before: textures", smallest=0, largest=10
    )
    guidance_scale: float = option(2.6, "1 = off", smallest=0)
    guidance_interval: tuple[int, int] = option((300, 800), "first and last timestep with guidance", smallest=0)
    autoguidance: float = option(1.85, "away from the network's guide, where it has one; 1 = off", smallest=0)
    autoguidance_interval: tuple[int, int] = option((400, 999), "first and last timestep with it", smallest=0)
    guidance_chroma: float = option(0.5, "share of both guidances that reaches colours; 1 = all", smallest=0)
    guidance_every: int = option(
        2, "N: compute what guidance adds at every Nth step, and keep it in between", smallest=1
    )
    guidance_head: bool = option(
        False, "let the network's head, where it has one, tell what a label changes, in place of a second pass"
    )
    contrast: float = option(
        1.0, "factor about mid-grey: 1.03 for a network of MNIST that had no clipped loss", smallest=1, largest=2
    )
    precision: str = option("bf16", "of the network, where the device has it", choices=("bf16", "fp16", "float32"))

    def timesteps(self, num_timesteps: int) -> list[int]:
        """Where the sampler calls the network. Raises UserError where the steps don't fit."""
        for name in INTERVALS:
            check_interval("--" + name.replace("_", "-"), getattr(self, name))
        try:
            return trailing_timesteps(
                num_timesteps,
                self.num_steps,
                spacing=self.spacing,
                early_steps=self.early_steps,
                detail_steps=self.detail_steps,
            )
        except ValueError as error:
            raise UserError(str(error)) from None


GRADED = SampleOptions()  # hw2_1.sh


def usable_options(model: UNet, options: SampleOptions) -> SampleOptions:
    """The options as they take effect.

    Without a guide there is no autoguidance, and without a head guidance takes a second pass: a line on stderr says
    so. A head has nothing to do where classifier-free guidance is off.
    """
    by_head = options.guidance_head and options.guidance_scale != 1
    if by_head and model.head is None and is_main_process():
        print(
            "note: the network has no head, so guidance takes a second pass; p1_cond_ddpm.distill adds one",
            file=sys.stderr,
        )
    options = replace(options, guidance_head=by_head and model.head is not None)
    if model.guide or options.autoguidance == 1:
        return options
    if is_main_process():
        print("note: the network has no guide, so autoguidance is off; p1_cond_ddpm.join adds one", file=sys.stderr)
    return replace(options, autoguidance=1.0)


def sampler_steps(
    model: UNet, labels: Tensor, x_T: Tensor, randn_like: RandnLike, options: SampleOptions
) -> Iterator[Step]:
    """Every step of the chosen sampler from x_T (B, C, H, W), for labels (B,) int64; num_classes means no label."""
    schedule, timesteps = model.config.noise_schedule(), options.timesteps(model.config.num_timesteps)
    denoise = guided(
        model,
        labels,
        scale=options.guidance_scale,
        null_label=model.config.num_classes,
        interval=options.guidance_interval,
        guide=model.guide,
        guide_scale=options.autoguidance,
        guide_interval=options.autoguidance_interval,
        chroma=options.guidance_chroma,
        every=options.guidance_every,
        head_interval=model.config.head_interval if options.guidance_head else None,
    )
    eta = 0.0 if options.sampler in ("dpm", "ddim") else 1.0
    common: dict[str, Any] = {"prediction": "v", "eta": eta, "clip_x_0": True, "randn_like": randn_like}
    if options.sampler in ("ddpm", "ddim"):
        return ddim(denoise, x_T, schedule, timesteps, use_clipped_model_output=True, **common)
    below = MIXED_BELOW if options.sampler == "mixed" else None
    return dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, second_order_below=below, **common)


def starting_noise(model: UNet, seeds: Sequence[int], device: torch.device) -> tuple[Tensor, RandnLike]:
    """x_T (B, C, 28, 28), and where further noise comes from."""
    randn_like = per_sample_noise(seeds)
    return randn_like(torch.empty(len(seeds), model.config.image_channels, SIZE, SIZE, device=device)), randn_like


@torch.inference_mode()
def sample_digits(
    model: UNet,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int],
    options: SampleOptions = GRADED,
    on_step: Callable[[int], object] = lambda images: None,
) -> Tensor:
    """One image per label and seed: (B, 3, 28, 28) uint8 on the model's device. `on_step` gets B after every step.

    Labels are the digits 0 to 9; num_classes, 10 in the released networks, asks for any digit.
    """
    device = next(model.parameters()).device
    x_T, randn_like = starting_noise(model, seeds, device)
    steps = sampler_steps(model, torch.as_tensor(labels, device=device), x_T, randn_like, options)
    with autocast(device, options.precision):
        return to_uint8(options.contrast * run(steps, on_step).x)


class ImageSpec(NamedTuple):
    """An image to sample."""

    name: str
    label: int
    seed: int


def digits_by_number(per_digit: int, seed: int) -> list[ImageSpec]:
    """D_NNN.png for the numbers 1 to per_digit of each digit D."""
    return [ImageSpec(f"{d}_{n:03d}.png", d, step_seed(seed, d, n)) for d in range(10) for n in range(1, per_digit + 1)]


def numbered(count: int, labels: Sequence[int], seed: int) -> list[ImageSpec]:
    """00001.png and so on, whose labels go round."""
    return [ImageSpec(f"{n:05d}.png", labels[(n - 1) % len(labels)], step_seed(seed, n)) for n in range(1, count + 1)]


def fast_batch_size(device: torch.device, precision: str) -> int:
    """Images at a time. In float32 a CPU is faster at few, whose feature maps stay in its cache."""
    return 20 if device.type == "cpu" and usable_precision(device, precision) == "float32" else 100


def sample_images(
    model: UNet, options: SampleOptions, images: Sequence[ImageSpec], *, batch_size: int | None = None
) -> Iterator[tuple[ImageSpec, Tensor]]:
    """Yield every image, (3, 28, 28) uint8, in order, with a progress bar; by default in batches of `fast_batch_size`.

    On a CPU, threads work on a batch each: on two cores this is faster than sharing the work of every operation.
    """
    device = next(model.parameters()).device
    batch_size = batch_size or fast_batch_size(device, options.precision)
    total = len(images) * len(options.timesteps(model.config.num_timesteps))
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    updating = Lock()

    def sample(batch: Sequence[ImageSpec], stopped: Event) -> Tensor:
        def on_step(count: int) -> None:
            if stopped.is_set():
                raise CancelledError
            with updating:
                bar.update(count)

        on_step(0)
        try:
            return sample_digits(model, [one.label for one in batch], [one.seed for one in batch], options, on_step)
        except NotFinite as error:
            raise UserError(f"{batch[error.row].name}: {error}; are the weights damaged?") from None

    with (
        tqdm(total=total, unit="step", desc=options.sampler.upper(), disable=not is_main_process()) as bar,
        closing(on_cores(sample, batches, device)) as sampled,
    ):
        for batch, pictures in zip(batches, sampled):
            yield from zip(batch, pictures)


def label_dropout(path: Path) -> float | None:
    """Which share of labels was hidden when the network of a weight file was trained; None where it doesn't say."""
    metadata = load_weights(path).metadata
    return metadata.get("train", {}).get("label_dropout") if metadata.get("labelled", True) else 1


def load_denoiser(path: Path = WEIGHTS, images: Sequence[ImageSpec] = (), *, guided: bool = False) -> UNet:
    """The network of a weight file for sampling, on the CPU, by default the released one.

    Raises:
        UserError: not such a file, or the network wasn't trained for such images or for guidance.
    """
    hidden, unlabelled = label_dropout(path), [one.label == NULL_LABEL for one in images]
    if hidden == 1 and not all(unlabelled):
        raise UserError(f"{path}: trained without labels; give --count and --labels none")
    if hidden == 0 and (guided or any(unlabelled)):
        raise UserError(f"{path}: trained on labels alone; give --guidance-scale 1 and no --labels none")
    return use_winograd(load_network(path, UNet, UNetConfig))
