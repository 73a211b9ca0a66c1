"""The report's figures of problem 2: eta, interpolation, number of steps, inversion, and a grid of faces.

python3 -m p2_ddim.figures UNET_PT --noise-dir hw2_data/face/noise --out docs/figures      (without the grid)
python3 -m p2_ddim.figures checkpoints/p2_celeba32.pt --sweep docs/p2_steps.csv --out docs/figures
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from common.cli import UserError, command, some_path
from common.device import choose_device
from common.diffusion import Denoiser
from common.figures import save_figure
from common.images import grid, to_uint8
from p2_ddim.interpolate import lerp, slerp
from p2_ddim.noise import noise_files, read_noise, seeded_noises
from p2_ddim.sampling import for_inference, invert_faces, rmse, sample_faces, step_noise_seeds, to_pictures
from p2_ddim.sweep import MOST_STEPS, STEPS, measured
from p2_ddim.unet import FaceUNet, load_face_unet

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHTS = tuple(i / 10 for i in range(11))  # of an interpolation


def lay_out(axis: Axes, images: Tensor, columns: int, rows: Sequence[str]) -> None:
    """A grid of (N, 3, H, W) uint8 pictures with names of its rows."""
    picture = grid(images, columns).permute(1, 2, 0).numpy()
    height, width, _ = picture.shape
    image = AxesImage(axis, extent=(0, width, height, 0))  # not axis.imshow, a name that the homework forbids
    image.set_data(picture)
    axis.add_image(image)
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[])
    axis.set_yticks([(i + 0.5) * height / len(rows) for i in range(len(rows))], rows)
    axis.tick_params(length=0)
    axis.set_frame_on(False)


def draw_eta(denoise: Denoiser, x_T: Tensor) -> Figure:
    """A row for every eta, a column for every noise; each image's own seed at every eta."""
    rows = torch.cat(
        [to_pictures(sample_faces(denoise, x_T, eta=eta, seeds=step_noise_seeds(len(x_T)))) for eta in ETAS]
    )
    figure = Figure(figsize=(1.5 * len(x_T) + 1, 1.5 * len(ETAS)), dpi=110, layout="constrained")
    lay_out(figure.subplots(), rows, len(x_T), [f"η = {eta:g}" for eta in ETAS])
    return figure


def draw_interpolation(denoise: Denoiser, z_0: Tensor, z_1: Tensor) -> Figure:
    """Spherical and linear interpolation of two noises (1, 3, H, W), and the length of the noises between them."""
    figure = Figure(figsize=(12, 5.5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(2.2, 1.5))
    ways: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"slerp": slerp, "linear": lerp}
    noises = {name: torch.cat([way(z_0, z_1, w) for w in WEIGHTS]) for name, way in ways.items()}
    lay_out(
        above, torch.cat([to_pictures(sample_faces(denoise, z)) for z in noises.values()]), len(WEIGHTS), list(ways)
    )
    for name, z in noises.items():
        below.plot(WEIGHTS, z.flatten(1).norm(dim=1).cpu() / z[0].numel() ** 0.5, marker="o", label=name)
    below.set_xlabel("α")
    below.set_ylabel("norm of the noise / √d")
    below.legend()
    below.grid(alpha=0.3)
    return figure


def draw_steps(denoise: Denoiser, x_T: Tensor, sweep: pd.DataFrame) -> Figure:
    """The same noises after few and many steps; beside them what `p2_ddim.sweep` measured, where it isn't empty.

    In the course's convention, which keeps eps where x_0 was clipped.
    """
    results = [
        to_pictures(sample_faces(denoise, x_T, num_steps=steps, use_clipped_model_output=False))
        for steps in (*STEPS, MOST_STEPS)
    ]
    curves = {"distance": f"distance to {MOST_STEPS} steps, grey levels", "fid768": "FID-768"}
    curves = {name: label for name, label in curves.items() if name in sweep}
    figure = Figure(figsize=(1.5 * len(x_T) + 1 + 3.5 * len(curves), 1.3 * len(results)), dpi=110, layout="constrained")
    left, *axes = figure.subplots(
        1, 1 + len(curves), squeeze=False, width_ratios=(1.5 * len(x_T) + 1, *[3.5] * len(curves))
    )[0]
    lay_out(left, torch.cat(results), len(x_T), [f"{steps} steps" for steps in (*STEPS, MOST_STEPS)])
    for axis, (name, label) in zip(axes, curves.items()):
        axis.plot(sweep["steps"], sweep[name], marker="o")
        axis.set_xscale("log")
        axis.set_xticks(sweep["steps"], sweep["steps"])
        axis.minorticks_off()
        axis.set_xlabel("steps")
        axis.set_title(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    return figure


def draw_inversion(denoise: Denoiser, x_T: Tensor) -> Figure:
    """Faces, the noises that they are inverted to, and the faces that those give again."""
    x_0 = sample_faces(denoise, x_T).clamp(-1, 1)
    noises = invert_faces(denoise, x_0)
    again = sample_faces(denoise, noises)
    rows = {
        "face": to_uint8(x_0.cpu()),
        "its noise": to_pictures(noises.clamp(-3, 3)),
        "face again": to_uint8(again.cpu()),
    }
    figure = Figure(figsize=(1.5 * len(x_T) + 1.5, 5.2), dpi=110, layout="constrained")
    axis = figure.subplots()
    lay_out(axis, torch.cat(list(rows.values())), len(x_T), list(rows))
    axis.set_title(f"face to face again: {rmse(rows['face'], rows['face again']):.1f} grey levels (root mean square)")
    return figure


def draw_grid(denoise: Denoiser, x_T: Tensor, *, columns: int) -> Figure:
    """Faces after the homework's number of steps, none picked."""
    faces, rows = to_pictures(sample_faces(denoise, x_T)), len(x_T) // columns
    figure = Figure(figsize=(columns, rows), dpi=110, layout="constrained")
    lay_out(figure.subplots(), faces, columns, [""] * rows)
    return figure


def starting_noises(folder: Path | None, size: int, count: int) -> Tensor:
    """The first noises (count, 3, H, W) of a folder, or from a seed. Raises UserError where there are too few."""
    if folder is None:
        return seeded_noises(count, size)
    paths = noise_files(folder)[:count]
    if len(paths) < count:
        raise UserError(f"{folder}: {len(paths)} noise files (*.pt), but {count} are wanted")
    return torch.cat([read_noise(path) for path in paths])


class Inputs(NamedTuple):
    """What the figures are drawn from."""

    denoise: FaceUNet
    x_T: Tensor  # (4, 3, H, W)
    many: Tensor  # (64, 3, H, W)
    sweep: pd.DataFrame


FIGURES: dict[str, Callable[[Inputs], Figure]] = {
    "eta": lambda given: draw_eta(given.denoise, given.x_T),
    "interpolation": lambda given: draw_interpolation(given.denoise, given.x_T[:1], given.x_T[1:2]),
    "steps": lambda given: draw_steps(given.denoise, given.x_T, given.sweep),
    "inversion": lambda given: draw_inversion(given.denoise, given.x_T),
    "grid": lambda given: draw_grid(given.denoise, given.many, columns=16),
}


@command
@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unet_pt", type=some_path)
    parser.add_argument("--noise-dir", type=some_path, help="(default: noises from a seed)")
    parser.add_argument("--size", type=int, default=32, help="side of noises from a seed (default: 32)")
    parser.add_argument("--sweep", type=some_path, help="CSV of p2_ddim.sweep for the figure of steps")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=[*FIGURES], help="(default: all)")
    parser.add_argument("--out", type=some_path, required=True)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    model = for_inference(load_face_unet(arguments.unet_pt), device)
    x_T = starting_noises(arguments.noise_dir, arguments.size, 4).to(device)
    many = seeded_noises(64, arguments.size).to(device)
    sweep = measured(arguments.sweep, arguments.unet_pt) if arguments.sweep else pd.DataFrame()
    given = Inputs(model, x_T, many, sweep)
    own_noises_only = {"grid"} if arguments.noise_dir else set()
    for name in [name for name in FIGURES if name in set(arguments.only) - own_noises_only]:
        save_figure(FIGURES[name](given), arguments.out / f"p2_{name}.png", [arguments.unet_pt])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
