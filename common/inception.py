"""The networks whose features FID compares: the package pytorch-fid's, or a local one up to Mixed_6e.

pytorch-fid downloads its weights once. The local network is the file fid768.py under $HW2_REAL_DATA/eval, with the
weights beside it; its features are those of `pytorch_fid --dims 768`.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from common.cli import UserError
from common.files import atomic_write, real_data
from common.zips import check_sums

BATCH = 20  # images at a time
KEPT = 5000  # images whose features are kept together; an interruption loses no more
DIMS = (2048, 768)


class Network(NamedTuple):
    """Features (B, dims) float32 of (B, H, W, 3) uint8 images."""

    name: str
    dims: int
    run: Callable[[np.ndarray], np.ndarray]


def fid768() -> ModuleType | None:
    """The module of the local network, where HW2_REAL_DATA has one."""
    path = real_data("eval/fid768.py")
    if not path:
        return None
    spec = importlib.util.spec_from_file_location("fid768", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packaged_network(dims: int) -> Network:
    """pytorch-fid's network with its own weights.

    Raises:
        UserError: the package isn't there or doesn't work, or its weights are neither cached nor to be downloaded.
    """
    try:
        from pytorch_fid.inception import InceptionV3

        model = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[dims]]).eval()
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        raise UserError(
            f"no {dims} features: pytorch-fid's network is not to be had ({str(error).splitlines()[0]}); "
            "pip install pytorch-fid torchvision, and be online once"
        ) from None

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return model(x)[0].mean((2, 3)).numpy()

    return Network("pytorch-fid's network", dims, run)


def find_network(dims: int | None = None) -> Network:
    """The network of so many features; without a number that of 2048, or where it is not to be had, of 768.

    Raises UserError where there is none.
    """
    if dims is None:
        try:
            return packaged_network(2048)
        except UserError as error:
            print(f"warning: {error}; now with 768 features", file=sys.stderr)
    elif dims != 768:
        return packaged_network(dims)
    if module := fid768():
        return Network("local weights", 768, module.Inception())
    return packaged_network(768)


@torch.inference_mode()
def features(images: np.ndarray, cache: Path | None = None, network: Network | None = None) -> np.ndarray:
    """(N, H, W, 3) uint8 images -> (N, dims) float32, by default the 768 features.

    They are kept in the folder `cache` under the images' and the network's own hash, those of many images in parts.
    Raises UserError where there is no such network.
    """
    key = (
        repr(images.shape).encode() + images.tobytes() + (f"{network.name} {network.dims}" if network else "").encode()
    )
    stored = cache / f"{hashlib.sha256(key).hexdigest()[:32]}.npz" if cache else None
    used = network or find_network(768)  # for kept features, too: whoever asks for these will need others
    if stored and (kept := kept_features(stored)) is not None:
        return kept
    if stored and len(images) > KEPT:
        return np.concatenate([features(images[i : i + KEPT], cache, network) for i in range(0, len(images), KEPT)])
    batches = tqdm(range(0, len(images), BATCH), unit="batch", desc="features", mininterval=1.0)
    found = np.concatenate([used.run(images[i : i + BATCH]) for i in batches])
    if stored:
        with atomic_write(stored) as temporary, open(temporary, "wb") as file:
            np.savez(file, features=found)
    return found


def kept_features(path: Path) -> np.ndarray | None:
    """The features in a file of the cache, or None where there is none or it is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        check_sums(path)
        with np.load(path) as content:
            return content["features"]
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for damaged files
        print(f"warning: {path}: damaged ({error}); its features are computed again", file=sys.stderr)
        return None
