"""The judge of problem 1: how many images D_NNN.png of a folder a fixed classifier takes for the digit D.

python3 digit_classifier.py --folder OUT_DIR

The weights are, first found: --weights; Classifier.pth beside this file (where the course's template has it);
$HW2_REAL_DATA/course/Classifier.pth; or this project's own judge, checkpoints/judge.pt.
"""
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.checkpoint import load_tensors
from common.cli import UserError, command
from common.images import read_rgb, to_unit_range
from p1_cond_ddpm.judge import LeNet, load_judge

HERE = Path(__file__).resolve().parent
OWN = HERE / "checkpoints" / "judge.pt"


def find_weights() -> Path:
    """The first of the places where a judge may be."""
    places = [HERE / "Classifier.pth"]
    if os.environ.get("HW2_REAL_DATA"):
        places.append(Path(os.environ["HW2_REAL_DATA"]) / "course" / "Classifier.pth")
    return next((place for place in places if place.is_file()), OWN)


def load(path: Path) -> LeNet:
    """The course's file ({"state_dict", "optimizer"}) or one of ours. Raises UserError for anything else."""
    content = load_tensors(path)
    if isinstance(content, dict) and "metadata" in content:
        return load_judge(path)
    try:
        model = LeNet()
        model.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, RuntimeError, AttributeError):
        raise UserError(f"{path}: not the judge's weights; give the course's Classifier.pth or {OWN}") from None
    return model.eval()


def read_folder(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, 28, 28) uint8 and labels (N,), the first characters of the names. Raises UserError where it can't be."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise UserError(f"{folder}: no images (*.png) in this folder")
    images = []
    for path in paths:
        image = read_rgb(path)
        if not path.name[0].isdigit() or image.size != (28, 28):
            raise UserError(f"{path}: {image.size[0]} x {image.size[1]} pixels; wanted are 28 x 28 ones named D_NNN.png, D the digit")
        images.append(np.asarray(image))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor([int(path.name[0]) for path in paths])


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args(argv)
    path = arguments.weights or find_weights()
    model = load(path)
    images, labels = read_folder(arguments.folder)
    with torch.inference_mode():
        correct = int((model(to_unit_range(images)).argmax(dim=1) == labels).sum())
    print(f"acc = {correct / len(labels)} (correct/total = {correct}/{len(labels)})")
    print(f"judged by {'this project’s own' if path == OWN else 'the given'} weights, {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
