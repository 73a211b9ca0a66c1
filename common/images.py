"""uint8 pictures and [-1, 1] tensors, PNG files, grids."""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from common.cli import UserError
from common.files import atomic_write, visible_files
from common.zips import check_sums, check_unpacked_size

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # for EPS, Pillow would start another program
MOST_PIXELS = 2**25  # of one picture; more would fill the memory


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, any shape."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float -1..1 -> uint8 0..255, rounded to the nearest, values outside clipped; any shape."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def nearest_distance(images: Tensor, training: Tensor, *, batch_size: int = 250) -> Tensor:
    """Root-mean-square distance (N,), in grey levels, of each (N, 3, H, W) uint8 image to the nearest of the training
    set's.
    """
    flat = training.flatten(1).float()
    squares = flat.square().sum(dim=1)
    distances = []
    for batch in images.flatten(1).float().split(batch_size):
        nearest = (squares - 2 * batch @ flat.T).argmin(dim=1)
        distances.append((batch - flat[nearest]).square().mean(dim=1).sqrt())
    return torch.cat(distances)


def write_png(path: Path, image: Tensor, text: Mapping[str, str] | None = None) -> None:
    """Write a (3, H, W) uint8 tensor as an RGB PNG, whole or not at all, with text chunks."""
    array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    with atomic_write(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG", pnginfo=chunks)


def sums_hold(content: bytes) -> bool:
    """Whether a file is a whole PNG whose checksums are right. Pillow doesn't look at them when it reads the pixels.

    Source: PNG Specification (W3C), section 5.3, chunk layout.
    """
    place, kind = 8, b""
    while content.startswith(b"\x89PNG\r\n\x1a\n") and kind != b"IEND" and place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        kind, chunk = content[place + 4 : place + 8], content[place + 4 : end]
        if content[end : end + 4] != zlib.crc32(chunk).to_bytes(4, "big"):
            return False
        place = end + 4
    return kind == b"IEND" and place == len(content)


def read_rgb(path: Path) -> Image.Image:
    """Any picture as 8-bit RGB, as a viewer shows it.

    Grey, palette, transparent (over white), 16-bit and float ones, and those that a camera stored turned, included.

    Raises:
        UserError: not readable as an image.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels, more than {MOST_PIXELS}")
            opened.load()
            image = upright(opened)
            if image.mode.startswith("I"):  # 16 or 32 bits
                values = np.asarray(image, dtype=np.int64)
                grey = wide_to_uint8(values)
                grey[values == image.info.get("transparency")] = 255
                image = Image.fromarray(grey)
            elif image.mode == "F":
                image = Image.fromarray(float_to_uint8(np.asarray(image)))
            if "A" in image.getbands() or "transparency" in image.info:
                overlay = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)
            return image.convert("RGB")
    except Exception as error:  # decoders of damaged files raise a dozen kinds
        raise UserError(f"{path}: not a readable image ({error})") from None


def upright(image: Image.Image) -> Image.Image:
    """A loaded picture as its EXIF orientation says; as it is where that can't be read."""
    if image.format == "TIFF":  # which Pillow turns as it loads them
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raises a dozen kinds, and the pixels may be whole
        return image


def wide_to_uint8(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 16 or 32 bits as uint8: 0..65535 scaled, and 0..255, which would else be black, as they are.

    Raises:
        ValueError: another range, which is no picture's.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high == 1 or high > 65535:
        raise ValueError(f"whole numbers from {low} to {high}; give 0 to 255, or 0 to 65535")
    return (values / (257 if high > 255 else 1)).round().astype(np.uint8)


def float_to_uint8(values: np.ndarray) -> np.ndarray:
    """Floats in 0..1, or in 0..255, as uint8; what resizing overshoots is clipped.

    Raises:
        ValueError: another range, which is no picture's.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= -0.1 and high <= 255) or 1.1 < high <= 2:  # NaN, too
        raise ValueError(f"floats from {low:.3g} to {high:.3g}; give 0 to 1, or uint8")
    return (values * (255 if high <= 1.1 else 1)).round().clip(0, 255).astype(np.uint8)


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder by their suffix, or in the one below that has some (`visible_files`)."""
    return visible_files(folder, SUFFIXES, kind="pictures")


def pictures_of_array(array: np.ndarray) -> np.ndarray:
    """What people keep pictures in -> (N, H, W, 3) uint8.

    uint8, booleans, floats in 0..1, or whole numbers in 0..255; (N, H, W), (N, H, W, 1 or 3), channels first, or flat
    rows of square grey pictures.

    Raises:
        ValueError: anything that could be read in two ways, or in none.
    """
    if array.dtype == np.uint8 and array.size and array.max() == 1:
        raise ValueError("0 and 1 as uint8; give booleans, or 0 to 255")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        array = float_to_uint8(array)
    elif array.dtype != np.uint8:
        if array.dtype.kind not in "iu" or array.min() < 0 or not 1 < array.max() <= 255:
            raise ValueError(f"{array.dtype}; give uint8")
        array = array.astype(np.uint8)
    if array.ndim == 3 and (array.shape[0] in (3, 4) or array.shape[2] in (1, 3, 4)):
        raise ValueError(f"shape {array.shape}, one picture or many; give (N, H, W, 1 or 3)")
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1] != array.shape[0]:
        side = math.isqrt(array.shape[1])
        array = array.reshape(-1, side, side)
    if array.ndim == 3:
        array = array[..., None]
    first, last = (array.ndim == 4 and array.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        raise ValueError(f"shape {array.shape}; give (N, H, W, 3)")
    array = array.transpose(0, 2, 3, 1) if first else array
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:3], 3)))


def read_pictures(path: Path, size: int | None = None) -> Tensor:
    """All pictures of a folder, or of a .npz's `images` (`pictures_of_array`), in order of name: (N, 3, H, W) uint8.

    With a size, each is cut to its middle square and shrunk or enlarged to (size, size) with antialiasing.

    Raises:
        UserError: no such file or folder, nothing or something unreadable in it, or several sizes where none is given.
    """
    if path.is_dir():
        arrays = [np.asarray(square(read_rgb(file), size)) for file in picture_files(path)]
    elif path.is_file():
        check_unpacked_size(path)
        try:
            check_sums(path)
            with np.load(path) as content:
                images = pictures_of_array(content["images"])
            arrays = [np.asarray(square(Image.fromarray(image), size)) for image in images]
        except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for damaged files
            raise UserError(f"{path}: not a .npz with pictures as `images` ({error})") from None
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
