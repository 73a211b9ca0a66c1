"""A digit data set of the homework (`data/*.png` with `train.csv` and `val.csv`) as tensors in memory."""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from common.cli import UserError
from common.images import read_rgb
from common.rng import generator, step_seed

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
        UserError: the CSV or an image is missing or unreadable, or a label is no digit.
    """
    table_path = root / csv
    if not table_path.is_file():
        raise UserError(f"{table_path}: no such file; a data set is a folder with data/*.png, train.csv and val.csv (bash get_dataset.sh)")
    table = pd.read_csv(table_path, dtype={"image_name": str})
    if not {"image_name", "label"} <= set(table.columns):
        raise UserError(f"{table_path}: the header must be image_name,label, not {','.join(table.columns)}")
    if not table["label"].isin(range(10)).all():
        raise UserError(f"{table_path}: labels must be digits 0 to 9")
    names = table["image_name"].tolist()
    images = np.stack([read_digit(root / "data" / name) for name in names])
    return DigitSet(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(table["label"].to_numpy(np.int64)),
        names,
    )


def batch_at(count: int, batch_size: int, *, seed: int, step: int) -> Tensor:
    """Indices (batch_size,) int64 of the batch number `step`: each epoch is a fresh permutation of 0..count-1, its rest dropped."""
    if batch_size > count:
        raise UserError(f"batch size {batch_size} exceeds the {count} images of the data set")
    epoch, position = divmod(step, count // batch_size)
    return _epoch_order(count, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=8)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator(step_seed(seed, epoch)))
