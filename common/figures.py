"""Pictures that know which checkpoints they show: a PNG text chunk holds their names and hashes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from common.checkpoint import sha256
from common.cli import UserError
from common.files import atomic_write
from common.images import write_png

KEY = "Checkpoints"


def stamp(checkpoints: Sequence[Path]) -> dict[str, str]:
    """The text chunk for pictures of these weight files."""
    return {KEY: json.dumps({path.name: sha256(path) for path in checkpoints})}


def save_figure(figure: Figure, path: Path, checkpoints: Sequence[Path]) -> None:
    """Write a figure as a stamped PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata=stamp(checkpoints))


def save_picture(image: Tensor, path: Path, checkpoints: Sequence[Path], *, enlarged: int = 1) -> None:
    """Write (3, H, W) uint8, each pixel as a square of `enlarged` pixels, as a stamped PNG."""
    larger = torch.nn.functional.interpolate(image[None], scale_factor=enlarged, mode="nearest")[0]
    write_png(path, larger, stamp(checkpoints))


def check_fresh(path: Path, released: Mapping[str, str]) -> None:
    """Raise UserError unless a picture shows the released checkpoints, hashes by name; a name that isn't released is
    let pass.
    """
    try:
        with Image.open(path) as image:
            shown = json.loads(image.info[KEY])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; draw it first, or take it out of the template") from None
    except (OSError, KeyError, ValueError):
        raise UserError(f"{path}: not a picture that says which checkpoints it shows; draw it again") from None
    for name, digest in shown.items():
        if released.get(name, digest) != digest:
            raise UserError(f"{path}: drawn from an older checkpoints/{name}; draw it again")
