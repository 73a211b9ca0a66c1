"""The report's figures of problem 2: eta, interpolation, number of steps, inversion, a grid of faces, and an edit.

python3 -m p2_ddim.figures UNET_PT --noise-dir hw2_data/face/noise --out docs/figures      (without the grid)
python3 -m p2_ddim.figures checkpoints/p2_celeba32.pt --sweep docs/p2_steps.csv --out docs/figures
python3 -m p2_ddim.figures checkpoints/p2_celeba32.pt --faces FACES --only edit --out runs/figures

The edit goes from one given face to another, through their noises and by their pixels.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from common.cli import UserError, add_device, command, some_path
from common.device import choose_device
from common.diffusion import Denoiser
from common.fid import read_set
from common.figures import (
    BLUE,
    COLUMN,
    GREY,
    ORANGE,
    PAGE,
    new_figure,
    save_figure,
    save_picture,
    show_pictures,
    styled,
)
from common.images import grid, to_uint8, to_unit_range
from p2_ddim.interpolate import draw_interpolation
from p2_ddim.noise import seeded_noises, starting_noises
from p2_ddim.sampling import (
    NUM_STEPS,
    for_inference,
    invert_faces,
    lerp,
    rmse,
    sample_faces,
    slerp,
    step_noise_seeds,
    to_pictures,
)
from p2_ddim.sweep import MOST_STEPS, STEPS, measured
from p2_ddim.unet import FaceUNet, load_face_unet

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
CURVES = {
    "distance": f"distance to {MOST_STEPS} steps, grey levels",
    "fid768": "FID-768",
    "inversion": "distance after inversion, grey levels",
}
CURVES_OF = {"steps": ("distance", "fid768"), "inversion": ("inversion",)}  # names of figures
EDIT_STEPS, EDIT_POINTS = 250, 9  # many steps, as inversion needs them; faces in a row
EPS_STYLES: dict[bool, dict[str, Any]] = {  # what becomes of eps where x_0 was clipped
    True: {"color": BLUE, "marker": "o", "label": "noise computed anew"},
    False: {"color": ORANGE, "marker": "s", "label": "noise kept (course)"},
}


@styled
def draw_eta(denoise: Denoiser, x_T: Tensor) -> Figure:
    """A row for every eta, a column for every noise; each image's own seed at every eta."""
    rows = torch.cat(
        [to_pictures(sample_faces(denoise, x_T, eta=eta, seeds=step_noise_seeds(len(x_T)))) for eta in ETAS]
    )
    figure = new_figure(COLUMN, 3.3)
    names = [f"noise {i:02d}" for i in range(len(x_T))]
    show_pictures(figure.subplots(), rows, len(x_T), rows=[f"η = {eta:g}" for eta in ETAS], names=names)
    return figure


@styled
def draw_steps(denoise: Denoiser, x_T: Tensor, sweep: pd.DataFrame) -> Figure:
    """The same noises after few and many steps; beside them what `p2_ddim.sweep` measured, where it isn't empty.

    A line for eps computed anew where x_0 was clipped, one for eps kept as in the course's convention.
    """
    all_steps = [*STEPS, MOST_STEPS]
    faces = torch.cat([to_pictures(sample_faces(denoise, x_T, num_steps=steps)) for steps in all_steps])
    figure, pictures = beside_curves(sweep, CURVES_OF["steps"], height=2.9)
    show_pictures(pictures, faces, len(x_T), rows=[f"{steps} steps" for steps in all_steps])
    return figure


def beside_curves(sweep: pd.DataFrame, names: Sequence[str], *, height: float) -> tuple[Figure, Axes]:
    """A figure with an empty axis on the left and, over the steps, a curve of every measurement that `sweep` has."""
    curves = [name for name in names if name in sweep]
    figure = new_figure(PAGE if curves else COLUMN, height)
    left, *axes = figure.subplots(1, 1 + len(curves), squeeze=False, width_ratios=[1.1, *[1] * len(curves)])[0]
    for axis, name in zip(axes, curves):
        for renewed, rows in sweep.groupby("use_clipped_model_output"):
            axis.plot(rows["steps"], rows[name], **EPS_STYLES[bool(renewed)])
        axis.axvline(NUM_STEPS, color=GREY, linestyle=":")
        axis.set_xscale("log")
        axis.set_xticks(sorted({*sweep["steps"]}), sorted({*sweep["steps"]}))
        axis.minorticks_off()
        axis.set_xlabel("steps")
        axis.set_ylabel(CURVES[name])
    if axes:
        axes[0].legend()
    return figure, left


@styled
def draw_inversion(denoise: Denoiser, x_T: Tensor, sweep: pd.DataFrame) -> Figure:
    """Faces, the noises that they are inverted to, and the faces that those give again; beside them the steps' error,
    where `sweep` has it.
    """
    x_0 = sample_faces(denoise, x_T).clamp(-1, 1)
    noises = invert_faces(denoise, x_0)
    again = sample_faces(denoise, noises)
    rows = {
        "face": to_uint8(x_0.cpu()),
        "its noise": to_pictures(noises.clamp(-3, 3)),
        "face again": to_uint8(again.cpu()),
    }
    figure, axis = beside_curves(sweep, CURVES_OF["inversion"], height=2.3)
    show_pictures(axis, torch.cat(list(rows.values())), len(x_T), rows=list(rows))
    axis.set_xlabel(f"root-mean-square difference: {rmse(rows['face'], rows['face again']):.1f} grey levels")
    return figure


@styled
def draw_edit(denoise: Denoiser, pair: Tensor) -> Figure:
    """From one of two faces (2, 3, H, W) uint8 to the other: faces from mixes of their noises, and mixes of pixels."""
    x_0 = to_unit_range(pair)
    first, second = x_0.split(1)
    z_0, z_1 = invert_faces(denoise, x_0, num_steps=EDIT_STEPS).split(1)
    weights = torch.linspace(0, 1, EDIT_POINTS).tolist()
    between = sample_faces(denoise, torch.cat([slerp(z_0, z_1, w) for w in weights]), num_steps=EDIT_STEPS)
    blended = torch.cat([lerp(first, second, w) for w in weights])
    figure = new_figure(PAGE, 1.9)
    axis = figure.subplots()
    rows = torch.cat([to_uint8(some.clamp(-1, 1).cpu()) for some in (between, blended)])
    show_pictures(axis, rows, EDIT_POINTS, rows=["by noise", "by pixel"])
    again = to_uint8(between[[0, -1]].clamp(-1, 1).cpu())
    axis.set_xlabel(f"root-mean-square difference of the ends to the faces: {rmse(again, pair.cpu()):.1f} grey levels")
    return figure


def draw_grid(denoise: Denoiser, x_T: Tensor, *, columns: int) -> Tensor:
    """Faces after the homework's number of steps, none picked: (3, H, W) uint8."""
    return grid(to_pictures(sample_faces(denoise, x_T)), columns)


class Inputs(NamedTuple):
    """What the figures are drawn from."""

    denoise: FaceUNet
    x_T: Tensor  # (4, 3, H, W)
    many: Tensor  # (64, 3, H, W)
    sweep: pd.DataFrame
    pair: Tensor | None  # two faces (2, 3, H, W) uint8


FIGURES: dict[str, Callable[[Inputs], Figure | Tensor]] = {
    "eta.png": lambda given: draw_eta(given.denoise, given.x_T),
    "interpolation.svg": lambda given: draw_interpolation(given.denoise, given.x_T[:1], given.x_T[1:2]),
    "steps.svg": lambda given: draw_steps(given.denoise, given.x_T, given.sweep),
    "inversion.png": lambda given: draw_inversion(given.denoise, given.x_T, given.sweep),
    "grid.png": lambda given: draw_grid(given.denoise, given.many, columns=16),
    "edit.png": lambda given: draw_edit(given.denoise, given.pair),
}


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name.split(".")[0] for name in FIGURES]
    parser.add_argument("unet_pt", type=some_path, help="the course's UNet.pt, or weights of p2_ddim.train")
    parser.add_argument("--noise-dir", type=some_path, help="folder of four noises or more (default: seeded ones)")
    parser.add_argument(
        "--size", type=int, default=32, help="side of seeded noises and, beside them, of --faces (default: 32)"
    )
    parser.add_argument("--sweep", type=some_path, help="CSV of p2_ddim.sweep for the figures of steps and inversion")
    parser.add_argument("--faces", help="pictures (see common.fid); the edit goes from the first to the second")
    parser.add_argument("--only", nargs="+", choices=names, help="some of the figures (default: all that are possible)")
    parser.add_argument("--out", type=some_path, required=True, help="folder for the figures")
    add_device(parser)
    arguments = parser.parse_args(argv)
    lacking = {
        "grid": "its noises are from seeds; leave --noise-dir out" if arguments.noise_dir else "",
        "edit": "" if arguments.faces else "give --faces, two pictures or more",
    }
    for name in arguments.only or ():
        if lacking.get(name):
            raise UserError(f"--only {name}: {lacking[name]}")
    device = choose_device(arguments.device)
    model = for_inference(load_face_unet(arguments.unet_pt), device)
    x_T = starting_noises(arguments.noise_dir, arguments.size, 4).to(device)
    many = seeded_noises(64, arguments.size).to(device)
    sweep = measured(arguments.sweep, arguments.unet_pt) if arguments.sweep else pd.DataFrame()
    pair = None
    if arguments.faces:
        pair = torch.from_numpy(read_set(arguments.faces, x_T.shape[-1])[:2]).permute(0, 3, 1, 2).to(device)
    given = Inputs(model, x_T, many, sweep, pair)
    for file, draw in FIGURES.items():
        name = file.split(".")[0]
        if name not in (arguments.only or names) or lacking.get(name):
            continue
        drawn, path = draw(given), arguments.out / f"p2_{file}"
        swept = any(curve in sweep for curve in CURVES_OF.get(name, ()))
        sources = [arguments.unet_pt, *([arguments.sweep] if swept else [])]
        if isinstance(drawn, Tensor):
            save_picture(drawn, path, sources, enlarged=2)
        else:
            save_figure(drawn, path, sources)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
