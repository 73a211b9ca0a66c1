"""The report's figures of problem 1: architecture, 10 x 10 grid, reverse process of the first 0, quality against
settings.

python3 -m p1_cond_ddpm.figures --out docs/figures --sweep docs/p1_sweep.csv
python3 -m p1_cond_ddpm.figures --weights checkpoints/p1_mnist.pt --only architecture --out docs/figures
python3 -m p1_cond_ddpm.figures --weights checkpoints/p1_mnist.pt --only grid process --out runs/figures
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.checkpoint import weights_id
from common.cli import UserError, add_device, command, some_path
from common.config import checked
from common.device import choose_device
from common.figures import BLUE, COLUMN, GREEN, GREY, ORANGE, PAGE, new_figure, save_figure, save_picture, styled
from common.images import grid
from common.measurements import read_measurements
from p1_cond_ddpm.architecture import draw_architecture
from p1_cond_ddpm.evaluate import as_row
from p1_cond_ddpm.process import draw_process, reverse_process
from p1_cond_ddpm.sampling import (
    GRADED,
    MIXED_BELOW,
    WEIGHTS,
    ImageSpec,
    SampleOptions,
    digits_by_number,
    load_denoiser,
    sample_images,
)
from p1_cond_ddpm.scores import REAL
from p1_cond_ddpm.unet import UNet

SAMPLER_STYLES = {
    "sde": ("SDE-DPM-Solver++(2M)", ORANGE),
    "dpm": ("DPM-Solver++(2M)", BLUE),
    "ddpm": ("DDPM", ORANGE),
    "ddim": ("DDIM", GREY),
    "mixed": (f"DDPM, below {MIXED_BELOW} SDE-DPM-Solver++(2M)", ORANGE),
}
LABELS = ((5, -3), (5, -9), (-15, 3))  # where the scales of one line, the next and so on stand beside their points
FIGURES = ("grid", "process", "architecture", "sweep")
PARTS = 5  # of the reverse process: t = 1000, 800, 600, 400, 200, 0


def digit_grid(model: UNet, digits: Sequence[ImageSpec], options: SampleOptions) -> Tensor:
    """Ten images of each digit, a row each: (3, H, W) uint8."""
    images = [image for _, image in sample_images(model, options, digits)]
    return grid(torch.stack(images).cpu(), 10)


def sweep_lines(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows that differ in the guidance scale alone, in its order, with the settings that they share.

    A scale of 1 belongs to every interval, with head and without, and without autoguidance to guidance kept for any
    number of steps. Single rows are left out. Rows in bf16 come before those in float32, where both were measured.
    """
    unguided = table["guidance_scale"] == 1
    settings = [f.name for f in fields(SampleOptions) if f.name not in ("guidance_scale", "precision")]
    for values, rows in table[~unguided].groupby(settings):
        shared = dict(zip(settings, values))
        without = {"guidance_interval", "guidance_head", *(["guidance_every"] if shared["autoguidance"] == 1 else [])}
        beside = [name for name in settings if name not in without]
        same = (table[beside] == pd.Series(shared)[beside]).all(axis=1)
        line = pd.concat([rows, table[unguided & same]]).sort_values(["guidance_scale", "precision"])
        line = line.drop_duplicates("guidance_scale")
        if len(line) > 1:
            yield shared, line


def setting_name(setting: dict[str, Any]) -> str:
    """A line's name in the legend."""
    early = f"{setting['early_steps']} + " if setting["early_steps"] else ""
    details = f" + {setting['detail_steps']}" if setting["detail_steps"] else ""
    name = f"{SAMPLER_STYLES[setting['sampler']][0]}, {early}{setting['num_steps']}{details} steps"
    if setting["guidance_interval"] != "0-999":
        name += f", guided in {setting['guidance_interval'].replace('-', '–')}"
    if setting["guidance_head"]:
        name += " by the head"
    if setting["autoguidance"] != 1:
        name += f", autoguided by {setting['autoguidance']:g}"
    if setting["guidance_every"] != 1:
        name += f", guidance every {setting['guidance_every']:g} steps"
    return name if setting["guidance_chroma"] == 1 else f"{name}, colours by {setting['guidance_chroma']:g}"


@styled
def draw_sweep(table: pd.DataFrame, weights: Path) -> Figure:
    """Accuracy and FID-768 against the coverage of real strokes, a line along the guidance scale for every sampler.

    The graded images' setting is ringed. Real images are a star (sweep.py).
    """
    real = table[table["weights"] == REAL]
    table = table[table["weights"] == weights_id(weights)]
    if table.empty:
        raise UserError(f"the sweep has no row of {weights}; run p1_cond_ddpm.sweep")
    figure = new_figure(PAGE, 2.9)
    axes = figure.subplots(1, 2)
    graded = as_row(weights, GRADED)
    del graded["precision"]  # depends on the machine
    ringed = table[(table[[*graded]] == pd.Series(graded)).all(axis=1)].sort_values("precision")[:1]
    for axis, score, factor in ((axes[0], "own_judge", 100), (axes[1], "fid768", 1)):
        for number, (setting, line) in enumerate(sweep_lines(table)):
            colour = GREEN if setting["autoguidance"] != 1 else SAMPLER_STYLES[setting["sampler"]][1]
            style = {"color": colour, "marker": "osD^v"[number % 5], "linestyle": ["-", "--", ":"][number % 3]}
            axis.plot(line["stroke_coverage"], factor * line[score], label=setting_name(setting), **style)
            if score == "own_judge":
                for _, point in line.iterrows():
                    place = (point["stroke_coverage"], factor * point[score])
                    axis.annotate(
                        f"{point['guidance_scale']:g}", place, xytext=LABELS[number % 3], textcoords="offset points"
                    )
        ring = {"s": 90, "facecolors": "none", "edgecolors": "black", "label": "graded images"}
        axis.scatter(ringed["stroke_coverage"], factor * ringed[score], **ring)
        if real[score].notna().any():
            axis.scatter(
                real["stroke_coverage"], factor * real[score], s=60, marker="*", color=GREY, label="real images"
            )
        axis.set_xlabel("coverage of real strokes")
    axes[0].set_ylabel("recognised, %")
    axes[1].set_ylabel("FID-768")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=some_path, required=True, help="folder for the figures")
    parser.add_argument("--sweep", type=some_path, help="CSV from p1_cond_ddpm.sweep")
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, help="some of the figures (default: all that are possible)"
    )
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    parser.add_argument("--contrast", type=float, default=1.0, help="of the grid and the process (default: 1)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    shown = checked(replace(GRADED, contrast=arguments.contrast))
    wanted = arguments.only or FIGURES
    if "sweep" in wanted and arguments.only and not arguments.sweep:
        raise UserError("--only sweep: give --sweep, the CSV")
    weights, device = [arguments.weights], choose_device(arguments.device)
    digits = digits_by_number(10, seed=0)
    model = load_denoiser(arguments.weights, digits, guided=True).to(device)
    if "grid" in wanted:
        save_picture(digit_grid(model, digits, shown), arguments.out / "p1_grid.png", weights, enlarged=2)
    if "process" in wanted:
        full = {"num_steps": model.config.num_timesteps, "spacing": 1.0, "guidance_every": 1, "precision": "float32"}
        ddpm = replace(shown, sampler="ddpm", **full)
        labels, seeds = torch.tensor([digits[0].label], device=device), [digits[0].seed]
        process = reverse_process(model, labels, seeds, ddpm, parts=PARTS)
        save_figure(draw_process(process, width=COLUMN, estimates=True), arguments.out / "p1_process.png", weights)
    if "architecture" in wanted:
        name = f"{arguments.weights.stem}_architecture.svg"
        save_figure(draw_architecture(model), arguments.out / name, weights)
    if "sweep" in wanted and arguments.sweep:
        table = read_measurements(
            arguments.sweep, ["own_judge", "fid768", "stroke_coverage", *(f.name for f in fields(SampleOptions))]
        )
        sources = [arguments.weights, arguments.sweep]
        save_figure(draw_sweep(table, arguments.weights), arguments.out / "p1_sweep.svg", sources)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
