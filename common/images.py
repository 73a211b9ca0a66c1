"""uint8 pictures and [-1, 1] tensors, PNG files, grids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from common.cli import UserError
from common.files import atomic_write


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, any shape."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float -1..1 -> uint8 0..255, rounded to the nearest, values outside clipped; any shape."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def write_png(path: Path, image: Tensor, text: Mapping[str, str] | None = None) -> None:
    """Write a (3, H, W) uint8 tensor as an RGB PNG, whole or not at all, with text chunks."""
    array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    with atomic_write(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG", pnginfo=chunks)


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


def read_pictures(path: Path, size: int | None = None) -> Tensor:
    """All pictures of a .npz (`images` (N, H, W, 3) or (N, H, W) uint8) or a folder, in order of name: (N, 3, H, W)
    uint8.

    With a size, each is cut to its middle square and shrunk or enlarged to (size, size) with antialiasing.

    Raises:
        UserError: no such file or folder, nothing in it, something unreadable, or sizes that differ where none is
        given.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        if folders := [file for file in files if file.is_dir()]:
            raise UserError(f"{folders[0]}: a folder among the pictures; give a folder of pictures alone")
        arrays = [np.asarray(square(read_rgb(file), size)) for file in files]
    elif path.is_file():
        try:
            with np.load(path) as content:
                images = content["images"]
            if images.dtype != np.uint8:
                raise ValueError(f"{images.dtype}")
            arrays = [np.asarray(square(Image.fromarray(image).convert("RGB"), size)) for image in images]
        except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for damaged files
            raise UserError(f"{path}: not a .npz with images (N, H, W, 3) uint8 ({error})") from None
    else:
        raise UserError(f"{path}: no such file or folder")
    if not arrays:
        raise UserError(f"{path}: no pictures in it")
    if len({array.shape for array in arrays}) > 1:
        raise UserError(f"{path}: pictures of several sizes; give a size to bring them to")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def square(picture: Image.Image, size: int | None) -> Image.Image:
    """The middle square of a picture at the given size; the picture itself where there is none."""
    if size is None:
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def grid(images: Tensor, columns: int, *, gap: int = 2) -> Tensor:
    """Lay (N, 3, H, W) uint8 images out row by row on white.

    Returns (3, rows (H + gap) + gap, columns (W + gap) + gap) uint8.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas
