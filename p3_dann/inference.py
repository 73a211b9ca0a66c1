"""Digits of target-domain images, from Python.

from p3_dann import load_classifier, predict_digits
labels = predict_digits(load_classifier("svhn"), images)  # (N, 3, 28, 28) uint8 -> (N,) int64
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common.checkpoint import CHECKPOINTS, load_network
from common.cli import UserError
from p3_dann.network import DigitNetwork, NetworkConfig, prepare

BATCH_SIZE = 32  # small ones are faster on a CPU: larger feature maps' memory goes back to the system after every layer

PART = 1000  # images that are looked at together; floats take four times the room


def load_classifier(which: str | Path) -> DigitNetwork:
    """The released network of a domain, "svhn" or "usps", or that of a weight file, on the CPU.

    Raises UserError for anything else.
    """
    path = CHECKPOINTS / f"p3_{which}.pt" if which in ("svhn", "usps") else Path(which)
    return load_network(path, DigitNetwork, NetworkConfig)


def for_inference(model: DigitNetwork) -> DigitNetwork:
    """The model in evaluation mode, changed in place: the same classes in less time on a CPU.

    Batch normalisation is folded into the convolutions, and channels come last in memory.
    """
    layers = [*model.eval().extractor]
    for i in range(1, len(layers)):
        if isinstance(layers[i], nn.BatchNorm2d):
            layers[i - 1], layers[i] = fuse_conv_bn_eval(layers[i - 1], layers[i]), nn.Identity()
    model.extractor = nn.Sequential(*layers)
    return model.to(memory_format=torch.channels_last)


def recognise_domain(images: Tensor) -> str:
    """'usps' where most of the images (N, 3, 28, 28) uint8 are grey with much black, as scanned ink is; else 'svhn'."""
    scanned = 0
    for part in images.split(PART):
        x = part.float()
        spread = (x.amax(dim=1) - x.amin(dim=1)).mean(dim=(1, 2))  # 0 in grey images; above 4 in 99 % of SVHN's
        black = (x.mean(dim=1) < 16).float().mean(dim=(1, 2))  # share of pixels; at least 0.17 in USPS
        scanned += int(((spread < 4) & (black > 0.12)).sum())
    return "usps" if scanned > len(images) / 2 else "svhn"


@torch.inference_mode()
def predict_digits(model: DigitNetwork, images: Tensor) -> Tensor:
    """Classes (N,) int64, on the CPU, of (N, 3, 28, 28) uint8 images.

    Raises:
        UserError: an output is not finite.
    """
    device, parts = next(model.parameters()).device, []
    for batch in images.split(BATCH_SIZE):
        logits = model(prepare(batch.to(device))).logits
        if not logits.isfinite().all():
            raise UserError("the classifier's output is not finite; are its weights damaged?")
        parts.append(logits.argmax(dim=1).cpu())
    return torch.cat(parts)
