"""The report's figures of problem 1: architecture, 10 x 10 grid, reverse process of the first 0, quality against
settings.

python3 -m p1_cond_ddpm.figures --out docs/figures --sweep docs/p1_sweep.csv
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.checkpoint import weights_id
from common.cli import UserError, add_device, command, some_path
from common.device import choose_device
from common.figures import BLUE, COLUMN, GREEN, GREY, ORANGE, PAGE, new_figure, save_figure, save_picture, styled
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
from p1_cond_ddpm.unet import UNet

SAMPLER_STYLES = {"dpm": ("DPM-Solver++(2M)", BLUE), "ddpm": ("DDPM", ORANGE), "ddim": ("DDIM", GREEN)}
SWEEP_AXES = (  # the option, another to tell lines apart by, the axis' title, and the other's in the legend
    ("guidance_scale", "num_steps", "guidance scale (1 = off)", "steps"),
    ("num_steps", "guidance_scale", "sampler's steps", "guidance scale"),
)
PARTS = 5  # of the reverse process: t = 1000, 800, 600, 400, 200, 0


def digit_grid(model: UNet, digits: Sequence[ImageSpec]) -> Tensor:
    """Ten graded images of each digit, a row each: (3, H, W) uint8."""
    images = [image for _, image in sample_images(model, GRADED, digits, batch_size=100)]
    return grid(torch.stack(images).cpu(), 10)


def sweep_lines(table: pd.DataFrame, x: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows that differ in x alone, in order of x, with the settings that they share.

    Single rows are left out. Rows in bf16 come before those in float32, where both were measured.
    """
    settings = [f.name for f in fields(SampleOptions) if f.name not in (x, "precision")]
    for values, rows in table.groupby(settings):
        line = rows.sort_values([x, "precision"]).drop_duplicates(x)
        if len(line) > 1:
            yield dict(zip(settings, values)), line


@styled
def draw_sweep(table: pd.DataFrame, weights: Path) -> Figure:
    """Accuracy and FID-768 against guidance scale and against steps, a line for every sampler (sweep.py).

    The graded images' setting is dotted.
    """
    table = table[table["weights"] == weights_id(weights)]
    if table.empty:
        raise UserError(f"the sweep has no row of {weights}; run p1_cond_ddpm.sweep")
    figure = new_figure(PAGE, 3.6)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (x, other, title, words) in enumerate(SWEEP_AXES):
        for number, (setting, line) in enumerate(sweep_lines(table, x)):
            name, colour = SAMPLER_STYLES[setting["sampler"]]
            style = {"color": colour, "marker": "osD^v"[number % 5], "label": f"{name}, {words} {setting[other]:g}"}
            axes[0, column].plot(line[x], 100 * line["own_judge"], **style)
            axes[1, column].plot(line[x], line["fid768"], **style)
        for axis in axes[:, column]:
            axis.axvline(getattr(GRADED, x), color=GREY, linestyle=":")
        axes[0, column].legend()
        axes[1, column].set_xlabel(title)
    axes[0, 0].set_ylabel("recognised, %")
    axes[1, 0].set_ylabel("FID-768")
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=some_path, required=True, help="folder for the figures")
    parser.add_argument("--sweep", type=some_path, help="CSV from p1_cond_ddpm.sweep")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    weights, device = [arguments.weights], choose_device(arguments.device)
    digits = digits_by_number(10, seed=0)
    model = load_denoiser(arguments.weights, digits, guided=True).to(device)
    save_picture(digit_grid(model, digits), arguments.out / "p1_grid.png", weights, enlarged=2)
    ddpm = SampleOptions(sampler="ddpm", num_steps=model.config.num_timesteps, precision="float32")
    labels, seeds = torch.tensor([digits[0].label], device=device), [digits[0].seed]
    process = reverse_process(model, labels, seeds, ddpm, parts=PARTS)
    save_figure(draw_process(process, width=COLUMN, estimates=True), arguments.out / "p1_process.png", weights)
    save_figure(draw_architecture(model), arguments.out / "p1_architecture.svg", weights)
    if arguments.sweep:
        table = read_measurements(arguments.sweep, ["own_judge", "fid768"])
        sources = [arguments.weights, arguments.sweep]
        save_figure(draw_sweep(table, arguments.weights), arguments.out / "p1_sweep.svg", sources)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
