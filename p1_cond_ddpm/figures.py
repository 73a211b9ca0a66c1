"""The report's figures of problem 1: the 10 x 10 grid and the reverse process of the first 0.

python3 -m p1_cond_ddpm.figures OUT_DIR --out docs/figures      (OUT_DIR from hw2_1.sh)
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.checkpoint import load_network
from common.cli import choose_device, command
from common.diffusion import NoiseSchedule, ddim
from common.files import whole_file
from common.images import grid, to_uint8, write_png
from common.rng import per_sample_noise, step_seed
from p1_cond_ddpm.judge import read_folder
from p1_cond_ddpm.loss import guided
from p1_cond_ddpm.sample import WEIGHTS, SampleOptions
from p1_cond_ddpm.unet import UNet, UNetConfig

INSTANTS = (1000, 800, 600, 400, 200, 0)  # timesteps that are left to do


def digit_grid(folder: Path) -> Tensor:
    """Rows are digits, columns the first ten noises: (3, H, W) uint8."""
    images, labels = read_folder(folder)
    first = torch.cat([images[labels == digit][:10] for digit in range(10)])
    return grid(first, 10)


@torch.inference_mode()
def reverse_process(model: UNet, *, digit: int, number: int, seed: int) -> list[Tensor]:
    """x_t of one image at INSTANTS under DDPM's 1000 steps: (3, 28, 28) uint8 each."""
    device, schedule = next(model.parameters()).device, NoiseSchedule.cosine()
    labels, scale = torch.tensor([digit], device=device), SampleOptions().guidance_scale
    denoise = guided(model, schedule, labels, scale=scale, null_label=model.config.num_classes)
    randn_like = per_sample_noise([step_seed(seed, digit, number)])
    x_T = randn_like(torch.empty(1, model.config.image_channels, 28, 28, device=device))
    timesteps = list(reversed(range(len(schedule))))
    at = {len(schedule): x_T}
    for step in ddim(denoise, x_T, schedule, timesteps, eta=1.0, clip_x_0=True, randn_like=randn_like):
        at[step.t] = step.x  # after the step of timestep t, t timesteps are left
    return [to_uint8(at[t][0]).cpu() for t in INSTANTS]


def draw_process(images: Sequence[Tensor], path: Path) -> None:
    """A row of pictures with the instants as titles."""
    figure = Figure(figsize=(1.4 * len(images), 1.8), dpi=150, layout="constrained")
    for axis, image, t in zip(figure.subplots(1, len(images)), images, INSTANTS):
        axis.imshow(image.permute(1, 2, 0))
        axis.set_title(f"t = {t}")
        axis.axis("off")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what hw2_1.sh wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    picture = torch.nn.functional.interpolate(digit_grid(arguments.folder)[None], scale_factor=2, mode="nearest")[0]
    write_png(arguments.out / "p1_grid.png", picture)
    model = load_network(arguments.weights, UNet, UNetConfig).to(choose_device(arguments.device))
    draw_process(reverse_process(model, digit=0, number=1, seed=0), arguments.out / "p1_process.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
