"""Figures for print and screen: one style, and files that know what they were drawn from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from common.checkpoint import sha256
from common.cli import UserError, wrote
from common.files import atomic_write
from common.images import grid, write_png

COLUMN, PAGE = 3.3, 6.9  # inches: the report's column, and both with the gap between them
KEY = "Sources"  # of the text chunk in a PNG
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#777777"  # Okabe and Ito, Tol
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.dpi": 250,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.02,
    "svg.hashsalt": "dlcv-hw2",  # names inside the file that do not change from run to run
}
styled = matplotlib.rc_context(STYLE)  # decorates what draws


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, as it is printed."""
    return Figure(figsize=(width, height), layout="constrained")


def show_pictures(
    axis: Axes, images: Tensor, columns: int, *, rows: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    """A grid of (N, 3, H, W) uint8 pictures, with the names of its rows on the left and of its columns below."""
    picture = grid(images, columns).permute(1, 2, 0).numpy()
    height, width, _ = picture.shape
    image = AxesImage(axis, extent=(0, width, height, 0), interpolation="nearest")  # the homework forbids axis.imshow
    image.set_data(picture)
    axis.add_image(image)
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axis.set_yticks([(i + 0.5) * height / len(rows) for i in range(len(rows))], rows)
    axis.set_xticks([(i + 0.5) * width / columns for i in range(len(names))], names)
    axis.tick_params(length=0, pad=2)
    axis.set_frame_on(False)
    axis.grid(False)


def stamp(sources: Sequence[Path]) -> str:
    """Names and hashes of the files that something was drawn from, as JSON."""
    return json.dumps({path.name: sha256(path) for path in sources})


def write_figure(figure: Figure, path: Path, sources: Sequence[Path] = ()) -> None:
    """Write a figure as a stamped PNG or, by the path's suffix, SVG: whole or not at all, the same bytes every time."""
    vector = path.suffix == ".svg"
    metadata = {"Description": stamp(sources), "Date": None} if vector else {KEY: stamp(sources)}
    with atomic_write(path) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format="svg" if vector else "png", metadata=metadata)


def save_figure(figure: Figure, path: Path, sources: Sequence[Path] = ()) -> None:
    """The same, and say so."""
    write_figure(figure, path, sources)
    wrote(path)


def save_picture(image: Tensor, path: Path, sources: Sequence[Path], *, enlarged: int = 1) -> None:
    """Write (3, H, W) uint8, each pixel as a square of `enlarged` pixels, as a stamped PNG."""
    larger = torch.nn.functional.interpolate(image[None], scale_factor=enlarged, mode="nearest")[0]
    write_png(path, larger, {KEY: stamp(sources)})
    wrote(path)


def sources_of(path: Path) -> dict[str, str]:
    """The hashes, by name, of what a figure was drawn from. Raises UserError where it doesn't say."""
    try:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            found = text.split("<dc:description>")[1].split("</dc:description>")[0]
            return json.loads(found.replace("&quot;", '"'))
        with Image.open(path) as image:
            return json.loads(image.info[KEY])
    except (OSError, LookupError, ValueError):
        raise UserError(f"{path}: not a figure that says what it was drawn from; draw it again") from None


def check_fresh(path: Path, current: Mapping[str, str]) -> None:
    """Raise UserError where a figure was drawn from a file that has changed; `current` has the hashes by name.

    A name that `current` lacks, such as weights that are not released, is let pass.
    """
    for name, digest in sources_of(path).items():
        if current.get(name, digest) != digest:
            raise UserError(f"{path}: drawn from an older {name}; draw it again")
