"""uint8 pictures and [-1, 1] tensors, PNG files, grids."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.cli import UserError
from common.files import whole_file


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, any shape."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float -1..1 -> uint8 0..255, rounded to the nearest, values outside clipped; any shape."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def write_png(path: Path, image: Tensor) -> None:
    """Write a (3, H, W) uint8 tensor as an RGB PNG, whole or not at all."""
    array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    with whole_file(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def read_rgb(path: Path) -> Image.Image:
    """Any picture as 8-bit RGB: grey, palette, transparent (over white) and 16-bit ones included.

    Raises:
        UserError: not readable as an image.
    """
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: keep the high byte
                values = np.asarray(image, dtype=np.float64)
                image = Image.fromarray((values / 257).clip(0, 255).round().astype(np.uint8))
            if "A" in image.getbands() or "transparency" in image.info:
                overlay = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)
            return image.convert("RGB")
    except Exception as error:  # decoders of damaged files raise a dozen kinds
        raise UserError(f"{path}: not a readable image ({error})") from None


def grid(images: Tensor, columns: int, *, gap: int = 2) -> Tensor:
    """Lay (N, 3, H, W) uint8 images out row by row on white: (3, rows (H + gap) + gap, columns (W + gap) + gap) uint8."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas
