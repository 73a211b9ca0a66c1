"""A digit data set of the homework (`data/*.png` with `train.csv` and `val.csv`) as tensors in memory."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from common.cli import UserError
from common.images import read_rgb

SIZE = 28


@dataclass(frozen=True)
class DigitSet:
    images: Tensor  # (N, 3, 28, 28) uint8
    labels: Tensor  # (N,) int64
    names: list[str]

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
    return DigitSet(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(labels.to_numpy(np.int64)),
        labels.index.tolist(),
    )


def read_labels(path: Path) -> pd.Series:
    """The digits of a CSV image_name,label, by name in its order.

    Raises:
        UserError: no such file, another header, no or broken rows, a name twice, or a label that is no digit.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; a data set is a folder with data/*.png, train.csv and val.csv (bash get_dataset.sh)")
    try:
        table = pd.read_csv(path, dtype={"image_name": str})
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path}: not a CSV ({str(error).strip()})") from None
    if not {"image_name", "label"} <= set(table.columns):
        raise UserError(f"{path}: the header must be image_name,label, not {','.join(map(str, table.columns))}")
    if table.empty or table["image_name"].isna().any() or table["image_name"].duplicated().any():
        raise UserError(f"{path}: every row needs a name of its own, and there must be rows")
    if not table["label"].isin(range(10)).all():
        raise UserError(f"{path}: labels must be digits 0 to 9")
    return table.set_index("image_name")["label"].astype(int)
