"""The report's figures of problem 1: the 10 x 10 grid, the reverse process of the first 0, quality against settings.

python3 -m p1_cond_ddpm.figures OUT_DIR --out docs/figures --sweep docs/p1_sweep.csv      (OUT_DIR from hw2_1.sh)
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
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
from p1_cond_ddpm.sweep import as_row
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
    labels, options, null_label = torch.tensor([digit], device=device), SampleOptions(), model.config.num_classes
    scale, interval = options.guidance_scale, options.guidance_interval
    denoise = guided(model, schedule, labels, scale=scale, null_label=null_label, interval=interval)
    randn_like = per_sample_noise([step_seed(seed, digit, number)])
    x_T = randn_like(torch.empty(1, model.config.image_channels, 28, 28, device=device))
    timesteps = list(reversed(range(len(schedule))))
    at = {len(schedule): x_T}
    for step in ddim(denoise, x_T, schedule, timesteps, eta=1.0, clip_x_0=True, randn_like=randn_like):
        at[step.t] = step.x  # after the step of timestep t, t timesteps are left
    return [to_uint8(at[t][0]).cpu() for t in INSTANTS]


def draw_process(images: Sequence[Tensor], path: Path) -> None:
    """A row of pictures, five times as large, with the instants below."""
    row = torch.nn.functional.interpolate(grid(torch.stack(list(images)), len(images))[None], scale_factor=5, mode="nearest")[0]
    height, width = row.shape[1:]
    figure = Figure(figsize=(width / 100, height / 100 + 0.3), dpi=100)
    figure.figimage(row.permute(1, 2, 0).numpy(), 0, 30)
    for number, t in enumerate(INSTANTS):
        figure.text((number + 0.5) / len(images), 0.05, f"t = {t}", ha="center")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_sweep(table: pd.DataFrame, weights: Path, path: Path) -> None:
    """Accuracy and FID-768 against guidance scale and against steps, the other settings at the graded images' (sweep.py)."""
    default = as_row(weights, SampleOptions())
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (name, title) in enumerate((("guidance_scale", "guidance scale (1 = off)"), ("num_steps", "steps"))):
        others = table[[n for n in default if n != name]]
        rows = table[(others == pd.Series(default)[others.columns]).all(axis=1)].sort_values(name)
        for axis, (metric, label) in zip(axes[:, column], (("own_judge", "accuracy, own judge"), ("fid768", "FID-768"))):
            axis.plot(rows[name], rows[metric], marker="o")
            axis.axvline(default[name], color="grey", linestyle=":")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1, column].set_xlabel(title)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what hw2_1.sh wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sweep", type=Path, help="CSV from p1_cond_ddpm.sweep")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    picture = torch.nn.functional.interpolate(digit_grid(arguments.folder)[None], scale_factor=2, mode="nearest")[0]
    write_png(arguments.out / "p1_grid.png", picture)
    model = load_network(arguments.weights, UNet, UNetConfig).to(choose_device(arguments.device))
    draw_process(reverse_process(model, digit=0, number=1, seed=0), arguments.out / "p1_process.png")
    if arguments.sweep:
        draw_sweep(pd.read_csv(arguments.sweep, dtype={"weights": str}), arguments.weights, arguments.out / "p1_sweep.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
