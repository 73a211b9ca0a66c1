"""FID-768: the Fréchet distance between two image sets on Inception-v3's Mixed_6e features.

The network and its weights are not part of this repository: they are the file fid768.py under $HW2_REAL_DATA/eval, with
the weights beside it (the same features as `pytorch_fid --dims 768`). Never compare with the usual 2048-d FID.

Source: Heusel et al. 2017.
"""
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from common.cli import UserError
from common.files import real_data, whole_file


def fid768() -> ModuleType:
    """The module that computes features. Raises UserError where HW2_REAL_DATA has none."""
    path = real_data("eval/fid768.py")
    if not path:
        raise UserError("FID-768 needs eval/fid768.py and its weights in the folder that HW2_REAL_DATA names")
    spec = importlib.util.spec_from_file_location("fid768", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def statistics(images: np.ndarray, cache: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (768,) and covariance (768, 768) of (N, H, W, 3) uint8 images, read from or kept in `cache`, which knows its images."""
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    if cache and cache.is_file():
        with np.load(cache) as content:
            if content["images"] == digest:
                return content["mu"], content["sigma"]
    mu, sigma = fid768().statistics(images)
    if cache:
        with whole_file(cache) as temporary, open(temporary, "wb") as file:
            np.savez(file, mu=mu, sigma=sigma, images=digest)
    return mu, sigma
