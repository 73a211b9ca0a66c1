"""Digits from problem 1's network: the graded 1000 images.

python3 -m p1_cond_ddpm.sample OUT_DIR      (hw2_1.sh)

Image NNN of digit D becomes OUT_DIR/D_NNN.png; its noise is drawn from the seed of (--seed, D, NNN), so it is the same
whatever else is sampled with it.
"""
import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from common.checkpoint import load_network
from common.cli import UserError, choose_device, command
from common.diffusion import NoiseSchedule, ddim, ddim_timesteps, dpm_solver_pp_2m, last
from common.images import to_uint8, write_png
from common.rng import per_sample_noise, step_seed
from p1_cond_ddpm.loss import guided
from p1_cond_ddpm.unet import UNet, UNetConfig

WEIGHTS = Path(__file__).resolve().parent.parent / "checkpoints" / "p1_mnistm.pt"
SAMPLERS = ("dpm", "ddim", "ddpm")
NUM_STEPS, GUIDANCE_SCALE = 15, 2.5  # of the graded images


@torch.inference_mode()
def sample_digits(
    model: UNet,
    labels: Tensor,
    seeds: Sequence[int],
    *,
    sampler: str,
    num_steps: int,
    guidance_scale: float,
    guidance_interval: tuple[int, int] | None = None,
    on_step: Callable[[int], object] = lambda images: None,
) -> Tensor:
    """One image per label (B,) int64 and seed: (B, 3, 28, 28) uint8 on the model's device.

    'dpm' is DPM-Solver++(2M), 'ddim' deterministic DDIM, 'ddpm' ancestral sampling (eta = 1). `on_step` gets B after every
    step.
    """
    device, schedule = labels.device, NoiseSchedule.cosine()
    randn_like = per_sample_noise(seeds)
    stride = len(schedule) // num_steps
    null_label = model.config.num_classes
    denoise = guided(model, schedule, labels, scale=guidance_scale, null_label=null_label, interval=guidance_interval)
    x_T = randn_like(torch.empty(len(labels), model.config.image_channels, 28, 28, device=device))
    timesteps = ddim_timesteps(len(schedule), num_steps, offset=stride - 1)  # so that the first one is close to pure noise
    if sampler == "dpm":
        steps = dpm_solver_pp_2m(denoise, x_T, schedule, timesteps, clip_x_0=True)
    else:
        eta = 1.0 if sampler == "ddpm" else 0.0
        steps = ddim(denoise, x_T, schedule, timesteps, eta=eta, clip_x_0=True, randn_like=randn_like)
    return to_uint8(last(steps, on_step).x)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit (default: 100)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpm")
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS, help=f"(default: {NUM_STEPS}; ddpm wants 1000)")
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE_SCALE, help=f"1 = off (default: {GUIDANCE_SCALE})")
    parser.add_argument("--guidance-interval", type=int, nargs=2, metavar="T", help="timesteps with guidance (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=100, help="does not change the images (default: 100)")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    for name, smallest, largest in (("per_digit", 1, 999), ("num_steps", 1, 1000), ("batch_size", 1, 10_000), ("seed", 0, 2**63)):
        if not smallest <= getattr(arguments, name) <= largest:
            raise UserError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give {smallest} to {largest}")
    device = choose_device(arguments.device)
    model = load_network(arguments.weights, UNet, UNetConfig).to(device)
    arguments.out_dir.mkdir(parents=True, exist_ok=True)

    wanted = [(digit, number) for digit in range(10) for number in range(1, arguments.per_digit + 1)]
    with tqdm(total=len(wanted) * arguments.num_steps, unit="step", desc=arguments.sampler.upper()) as bar:
        for start in range(0, len(wanted), arguments.batch_size):
            batch = wanted[start : start + arguments.batch_size]
            images = sample_digits(
                model,
                torch.tensor([digit for digit, _ in batch], device=device),
                [step_seed(arguments.seed, digit, number) for digit, number in batch],
                sampler=arguments.sampler,
                num_steps=arguments.num_steps,
                guidance_scale=arguments.guidance_scale,
                guidance_interval=arguments.guidance_interval,
                on_step=bar.update,
            )
            for (digit, number), image in zip(batch, images):
                write_png(arguments.out_dir / f"{digit}_{number:03d}.png", image)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
