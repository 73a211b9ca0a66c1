"""The report's figures of problem 1: architecture, 10 x 10 grid, reverse process of the first 0, quality against
settings.

python3 -m p1_cond_ddpm.figures --out docs/figures --sweep docs/p1_sweep.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.cli import UserError, command, some_path
from common.device import choose_device
from common.figures import save_figure, save_picture
from common.images import grid
from common.measurements import read_measurements
from p1_cond_ddpm.architecture import draw_architecture
from p1_cond_ddpm.process import draw_process, reverse_process
from p1_cond_ddpm.sampling import (
    GRADED,
    WEIGHTS,
    ImageSpec,
    SampleOptions,
    digits_by_number,
    load_denoiser,
    sample_images,
)
from p1_cond_ddpm.sweep import as_row
from p1_cond_ddpm.unet import UNet

PARTS = 5  # of the reverse process: t = 1000, 800, 600, 400, 200, 0


def digit_grid(model: UNet, digits: Sequence[ImageSpec]) -> Tensor:
    """Ten graded images of each digit, a row each: (3, H, W) uint8."""
    images = [image for _, image in sample_images(model, GRADED, digits, batch_size=100)]
    return grid(torch.stack(images).cpu(), 10)


def draw_sweep(table: pd.DataFrame, weights: Path) -> Figure:
    """Accuracy and FID-768 against guidance scale and against steps, the other settings at the graded images'
    (sweep.py).

    Rows in bf16 come before those in float32, where both were measured.
    """
    default = as_row(weights, GRADED)
    del default["precision"]
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (name, title) in enumerate((("guidance_scale", "guidance scale (1 = off)"), ("num_steps", "steps"))):
        others = table[[n for n in default if n != name]]
        rows = (
            table[(others == pd.Series(default)[others.columns]).all(axis=1)]
            .sort_values([name, "precision"])
            .drop_duplicates(name)
        )
        if rows.empty:
            raise UserError(
                f"the sweep has no row of {weights} with the graded images' settings; run p1_cond_ddpm.sweep"
            )
        for axis, (metric, label) in zip(
            axes[:, column], (("own_judge", "accuracy, own judge"), ("fid768", "FID-768"))
        ):
            axis.plot(rows[name], rows[metric], marker="o")
            axis.axvline(default[name], color="grey", linestyle=":")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1, column].set_xlabel(title)
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=some_path, required=True)
    parser.add_argument("--sweep", type=some_path, help="CSV from p1_cond_ddpm.sweep")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    weights, device = [arguments.weights], choose_device(arguments.device)
    digits = digits_by_number(10, seed=0)
    model = load_denoiser(arguments.weights, digits, guided=True).to(device)
    save_picture(digit_grid(model, digits), arguments.out / "p1_grid.png", weights, enlarged=2)
    ddpm = SampleOptions(sampler="ddpm", num_steps=model.config.num_timesteps, precision="float32")
    labels, seeds = torch.tensor([digits[0].label], device=device), [digits[0].seed]
    save_figure(
        draw_process(*reverse_process(model, labels, seeds, ddpm, parts=PARTS)),
        arguments.out / "p1_process.png",
        weights,
    )
    save_figure(draw_architecture(model), arguments.out / "p1_architecture.png", weights)
    if arguments.sweep:
        table = read_measurements(arguments.sweep, ["own_judge", "fid768"])
        save_figure(draw_sweep(table, arguments.weights), arguments.out / "p1_sweep.png", weights)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
