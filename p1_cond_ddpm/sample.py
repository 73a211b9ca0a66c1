"""Digits from problem 1's network: the graded 1000 images.

python3 -m p1_cond_ddpm.sample OUT_DIR      (hw2_1.sh)

Image NNN of digit D becomes OUT_DIR/D_NNN.png; its noise is drawn from the seed of (--seed, D, NNN), so it is the same
whatever else is sampled with it.
"""
import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from common.checkpoint import load_network
from common.cli import UserError, autocast, choose_device, command
from common.config import check_range, option, parse_options
from common.diffusion import NoiseSchedule, ddim, dpm_solver_pp_2m, last, trailing_timesteps
from common.images import to_uint8, write_png
from common.rng import per_sample_noise, step_seed
from p1_cond_ddpm.loss import guided
from p1_cond_ddpm.unet import UNet, UNetConfig

WEIGHTS = Path(__file__).resolve().parent.parent / "checkpoints" / "p1_mnistm.pt"
SAMPLERS = ("dpm", "ddim", "ddpm")


@dataclass(frozen=True)
class SampleOptions:
    """How to sample; the defaults are the graded images'."""

    sampler: str = option("dpm", "DPM-Solver++(2M), DDIM with eta = 0, or DDPM, which wants 1000 steps", choices=SAMPLERS)
    num_steps: int = option(8, "steps", smallest=1, largest=1000)
    spacing: float = option(1.0, "1 = even steps, less = smaller steps where there is much noise", smallest=0.1, largest=10)
    guidance_scale: float = option(3.5, "1 = off")
    guidance_interval: tuple[int, int] = option((0, 999), "first and last timestep with guidance")
    precision: str = option("bf16", "of the network, where the device has it", choices=("bf16", "float32"))

    def timesteps(self, num_timesteps: int) -> list[int]:
        """Where the sampler calls the network. Raises UserError where the steps don't fit."""
        try:
            return trailing_timesteps(num_timesteps, self.num_steps, spacing=self.spacing)
        except ValueError as error:
            raise UserError(str(error)) from None


@torch.inference_mode()
def sample_digits(
    model: UNet, labels: Tensor, seeds: Sequence[int], options: SampleOptions, on_step: Callable[[int], object] = lambda images: None
) -> Tensor:
    """One image per label (B,) int64 and seed: (B, 3, 28, 28) uint8 on the labels' device. `on_step` gets B after every step."""
    device, schedule = labels.device, NoiseSchedule.cosine()
    randn_like = per_sample_noise(seeds)
    null_label, interval = model.config.num_classes, options.guidance_interval
    denoise = guided(model, schedule, labels, scale=options.guidance_scale, null_label=null_label, interval=interval)
    x_T = randn_like(torch.empty(len(labels), model.config.image_channels, 28, 28, device=device))
    timesteps = options.timesteps(len(schedule))
    if options.sampler == "dpm":
        steps = dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, clip_x_0=True)
    else:
        eta = 1.0 if options.sampler == "ddpm" else 0.0
        steps = ddim(denoise, x_T, schedule, timesteps, eta=eta, clip_x_0=True, randn_like=randn_like)
    with autocast(device, options.precision):
        return to_uint8(last(steps, on_step).x)


def draw_digits(
    model: UNet, options: SampleOptions, *, per_digit: int, seed: int, batch_size: int, device: torch.device
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (digit, number from 1, (3, 28, 28) uint8 image) of `per_digit` images of each digit, with a progress bar."""
    wanted = [(digit, number) for digit in range(10) for number in range(1, per_digit + 1)]
    with tqdm(total=len(wanted) * options.num_steps, unit="step", desc=options.sampler.upper()) as bar:
        for start in range(0, len(wanted), batch_size):
            batch = wanted[start : start + batch_size]
            labels = torch.tensor([digit for digit, _ in batch], device=device)
            images = sample_digits(model, labels, [step_seed(seed, *one) for one in batch], options, bar.update)
            yield from ((digit, number, image) for (digit, number), image in zip(batch, images))


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=100, help="does not change the images (default: 100)")
    parser.add_argument("--device", default="auto")
    arguments, options = parse_options(parser, argv, SampleOptions)
    check_range("--per-digit", arguments.per_digit, 1, 999)
    check_range("--batch-size", arguments.batch_size, 1)
    check_range("--seed", arguments.seed, 0)
    if len(options.guidance_interval) != 2:
        raise UserError(f"--guidance-interval: give two timesteps, the first and the last, not {len(options.guidance_interval)}")
    device = choose_device(arguments.device)
    model = load_network(arguments.weights, UNet, UNetConfig).to(device)
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    drawing = {"per_digit": arguments.per_digit, "seed": arguments.seed, "batch_size": arguments.batch_size}
    for digit, number, image in draw_digits(model, options, device=device, **drawing):
        write_png(arguments.out_dir / f"{digit}_{number:03d}.png", image)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
