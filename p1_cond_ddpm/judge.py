"""The judge of problem 1: how many images D_NNN.png of a folder a fixed classifier takes for the digit D.

python3 digit_classifier.py --folder OUT_DIR

The weights are, first found: --weights; Classifier.pth beside digit_classifier.py (where the course's template has it);
$HW2_REAL_DATA/course/Classifier.pth; or this project's own judge, checkpoints/judge.pt (train_judge.py).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoint import CHECKPOINTS, check_finite, load_tensors
from common.cli import UserError, command, some_path
from common.files import REPOSITORY, real_data
from common.images import picture_files, read_rgb, to_unit_range

OWN = CHECKPOINTS / "judge.pt"


class LeNet(nn.Module):
    """(B, 3, 28, 28) in [-1, 1] -> logits (B, 10). Source: LeCun et al. 1998, with the course's widths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 4 * 4, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


def find_weights() -> Path:
    """The first of the places where a judge may be."""
    beside = REPOSITORY / "Classifier.pth"
    return beside if beside.is_file() else real_data("course/Classifier.pth") or OWN


def load(path: Path) -> LeNet:
    """The course's file ({"state_dict", "optimizer"}) or one of ours. Raises UserError for anything else."""
    content = load_tensors(path)
    model = LeNet()
    try:
        check_finite(path, content["state_dict"])
        model.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, RuntimeError, AttributeError):
        raise UserError(f"{path}: not the judge's weights; give the course's Classifier.pth or {OWN}") from None
    return model.eval()


def read_folder(folder: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 28, 28) uint8 and labels (N,), the first characters of the names.

    Raises UserError where it can't be.
    """
    paths = [path for path in picture_files(folder) if path.suffix.lower() == ".png"]
    if not paths:
        raise UserError(f"{folder}: no images (*.png) in this folder")
    images = []
    for path in paths:
        image = read_rgb(path)
        if not re.match(r"\d_", path.name):
            raise UserError(f"{path}: named for no digit; give images named D_NNN.png")
        if image.size != (28, 28):
            raise UserError(f"{path}: an image of {image.size[0]} x {image.size[1]} pixels; give images of 28 x 28")
        images.append(np.asarray(image))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor([int(path.name[0]) for path in paths])


@torch.inference_mode()
def count_correct(folder: Path, weights: Path) -> tuple[int, int]:
    """Images that the judge takes for the digit of their name, and all."""
    model = load(weights)
    images, labels = read_folder(folder)
    return int((model(to_unit_range(images)).argmax(dim=1) == labels).sum()), len(labels)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=some_path, required=True, help="of images D_NNN.png")
    parser.add_argument("--weights", type=some_path, help="of the judge (default: see above)")
    arguments = parser.parse_args(argv)
    path = arguments.weights or find_weights()
    correct, total = count_correct(arguments.folder, path)
    print(f"acc = {correct / total} (correct/total = {correct}/{total})")
    print(f"judged by {'this project’s own' if path == OWN else 'the given'} weights, {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
