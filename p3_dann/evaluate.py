"""Accuracy of problem 3's predictions or networks, and a score of networks that needs no labels.

python3 -m p3_dann.evaluate --predictions PRED_CSV --labels hw2_data/digits/svhn/val.csv
python3 -m p3_dann.evaluate --weights runs/p3_svhn/weights.pt --data hw2_data/digits/svhn
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.cli import UserError, add_device, command, some_path
from common.device import choose_device
from common.digits import DigitSet, load_digits, read_labels
from p3_dann import augment
from p3_dann.inference import load_classifier, predict_digits
from p3_dann.network import DigitNetwork, prepare


def csv_accuracy(predictions: Path, labels: Path) -> tuple[int, int]:
    """Correct and all of the labelled images, matched by name. Raises UserError where a prediction is missing."""
    truth, predicted = read_labels(labels), read_labels(predictions)
    missing = truth.index.difference(predicted.index)
    if len(missing):
        raise UserError(f"{predictions}: {len(missing)} images of {labels} have no row, first {missing[0]}")
    return int((predicted[truth.index] == truth).sum()), len(truth)


def accuracy(model: DigitNetwork, digits: DigitSet) -> float:
    """Share of labelled images that the network gets right."""
    return (predict_digits(model, digits.images) == digits.labels).float().mean().item()


@torch.inference_mode()
def agreement(model: DigitNetwork, images: Tensor, *, seed: int = 0, batch_size: int = 500) -> float:
    """Share of (N, 3, 28, 28) uint8 images whose class is the same in a strongly augmented view.

    It needs no label, so it may choose between settings: a network that knows a domain does not change its mind over a
    view, one that guesses does.
    """
    device, same = next(model.parameters()).device, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for batch in images.split(batch_size):
            x = prepare(batch.to(device))
            plain, augmented = (model(view).logits.argmax(dim=1) for view in (x, augment.strong(x)))
            same += int((plain == augmented).sum())
    return same / len(images)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=some_path, help="CSV that p3_dann.predict wrote")
    parser.add_argument("--labels", type=some_path, help="CSV with the true labels")
    parser.add_argument("--weights", type=some_path, help="of a network to judge instead")
    parser.add_argument("--data", type=some_path, help="folder with data/*.png and val.csv")
    add_device(parser)
    arguments = parser.parse_args(argv)
    if arguments.predictions and arguments.labels:
        correct, total = csv_accuracy(arguments.predictions, arguments.labels)
        print(f"accuracy {correct / total:.4f} ({correct}/{total})")
    elif arguments.weights and arguments.data:
        model = load_classifier(arguments.weights).to(choose_device(arguments.device))
        print(f"accuracy {accuracy(model, load_digits(arguments.data, 'val.csv')):.4f}")
    else:
        raise UserError("give --predictions and --labels, or --weights and --data")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
