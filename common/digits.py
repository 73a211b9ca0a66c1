"""Digit data sets as tensors in memory: the homework's folders (`data/*.png` with `train.csv` and `val.csv`) and
others.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from common.cli import UserError
from common.images import read_pictures, read_rgb

SIZE = 28
NULL_LABEL = 10  # where a data set has none; also the class of no class in networks


@dataclass(frozen=True)
class DigitSet:
    images: Tensor  # (N, 3, 28, 28) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


def read_digit(path: Path) -> np.ndarray:
    """One picture as (28, 28, 3) uint8; other sizes are resized (bilinear). Raises UserError where unreadable."""
    image = read_rgb(path)
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def load_digits(root: Path, csv: str) -> DigitSet:
    """Load the images that root/csv lists, from root/data.

    Raises:
        UserError: an image is missing or unreadable, or `read_labels` can't read the CSV.
    """
    labels = read_labels(root / csv)
    images = np.stack([read_digit(root / "data" / name) for name in labels.index])
    return DigitSet(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels.to_numpy(np.int64)))


def load_training_digits(path: Path) -> DigitSet:
    """The training images of a data set in any of four forms.

    A homework's folder (its train.csv); a folder of the folders 0 to 9; a folder of pictures alone, whose labels are
    NULL_LABEL; or a .npz of `images`, with `labels` where it has some and, where it has val images too, `split`
    ("train" or not).

    Raises:
        UserError: nothing of these, or something in it is unreadable.
    """
    if (path / "train.csv").is_file():
        return load_digits(path, "train.csv")
    by_digit = {digit: path / str(digit) for digit in range(10) if (path / str(digit)).is_dir()}
    if by_digit:
        parts = {digit: read_pictures(folder, SIZE) for digit, folder in by_digit.items()}
        return DigitSet(
            torch.cat([*parts.values()]), torch.cat([torch.full((len(part),), digit) for digit, part in parts.items()])
        )
    images = read_pictures(path, SIZE)
    if path.is_dir():
        return DigitSet(images, torch.full((len(images),), NULL_LABEL))
    try:
        with np.load(path) as content:
            labels = content["labels"].astype(float) if "labels" in content else np.full(len(images), NULL_LABEL)
            split = content["split"].astype(str) if "split" in content else np.full(len(images), "train")
        training = np.char.lower(split) == "train"
        if labels.shape != (len(images),) or training.shape != labels.shape:
            raise ValueError(f"labels {labels.shape}, split {training.shape} of {len(images)} images")
        if not np.isin(labels, range(NULL_LABEL + 1)).all() or {NULL_LABEL} < {*labels} <= {*range(1, NULL_LABEL + 1)}:
            raise ValueError(f"labels from {labels.min():g} to {labels.max():g}")
        if not training.any():
            raise ValueError(f"no image's split is 'train', but {split[0]!r}")
    except ValueError as error:  # NumPy's, of words or objects
        raise UserError(f"{path}: give one digit per image as `labels`, or {NULL_LABEL} for none ({error})") from None
    return DigitSet(images[torch.from_numpy(training)], torch.from_numpy(labels[training].astype(np.int64)))


def read_labels(path: Path) -> pd.Series:
    """The digits of a CSV image_name,label, by name in its order.

    Raises:
        UserError: no such file, another header, no or broken rows, a name twice, or a label that is no digit.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; a data set is a folder with data/*.png, train.csv and val.csv (bash get_dataset.sh)"
        )
    try:
        table = pd.read_csv(path, dtype={"image_name": str}, encoding_errors="surrogateescape")
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path}: not a CSV ({str(error).strip()})") from None
    if not {"image_name", "label"} <= set(table.columns):
        raise UserError(f"{path}: the header must be image_name,label, not {','.join(map(str, table.columns))}")
    if table.empty or table["image_name"].isna().any() or table["image_name"].duplicated().any():
        raise UserError(f"{path}: every row needs a name of its own, and there must be rows")
    if not table["label"].isin(range(10)).all():
        raise UserError(f"{path}: labels must be digits 0 to 9")
    return table.set_index("image_name")["label"].astype(int)
