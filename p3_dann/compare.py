"""What tells good networks of problem 3 from bad ones without target labels, and how far apart the domains stay.

python3 -m p3_dann.compare runs/p3_svhn_* --data hw2_data/digits --out docs/p3_selection.csv

A row for every finished run: accuracy on val, four scores that need no target label, the proxy A-distance of the
domains' features, and that of single digits. Then the rank correlation of each with the accuracy, over all rows of the
runs' targets. That is an oracle's look back: it uses target labels, and chose nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from common.cli import command, some_path
from common.digits import DigitSet, load_digits
from common.measurements import Measurements
from common.rng import generator
from p3_dann.inference import load_classifier
from p3_dann.runs import Run, read_run
from p3_dann.shift import (
    answers,
    certainty_with_diversity,
    class_conditional_a_distance,
    importance_weighted_accuracy,
    proxy_a_distance,
    separability,
    soft_neighbourhood_density,
)
from p3_dann.train import SOURCE

IMAGES = 1400  # of each domain: USPS's val has 1488
SCORES = ("agreement", "certainty_with_diversity", "soft_neighbourhood_density", "importance_weighted_accuracy")
DISTANCES = ("a_distance", "class_a_distance")


def drawn(digits: DigitSet) -> DigitSet:
    """The same random images of a set in every call."""
    rows = torch.randperm(len(digits), generator=generator(0))[:IMAGES]
    return DigitSet(digits.images[rows], digits.labels[rows])


def measure(run: Run, weights: Path, source: DigitSet, unlabelled: DigitSet, val: DigitSet) -> dict[str, float]:
    """Scores on source val and target train images, distances between source val and target val images."""
    model = load_classifier(weights)
    ours, theirs, held_out = (answers(model, digits.images) for digits in (source, unlabelled, val))
    return {
        "val_accuracy": run.val_accuracy,
        "agreement": run.agreement,
        "certainty_with_diversity": certainty_with_diversity(theirs.probabilities),
        "soft_neighbourhood_density": soft_neighbourhood_density(theirs.probabilities),
        "importance_weighted_accuracy": importance_weighted_accuracy(ours, source.labels.numpy(), theirs),
        "a_distance": proxy_a_distance(separability(ours.features, held_out.features)),
        "class_a_distance": class_conditional_a_distance(
            ours.features, source.labels.numpy(), held_out.features, val.labels.numpy()
        ),
    }


def print_correlations(table: pd.DataFrame) -> None:
    """Of every score and distance with the accuracy, a line for each target."""
    for target, rows in table.groupby("target"):
        ranked = rows[[*SCORES, *DISTANCES]].corrwith(rows["val_accuracy"], method="spearman")
        found = ", ".join(f"{name} {value:.2f}" for name, value in ranked.items())
        print(f"rank correlation with accuracy over {len(rows)} runs to {target} (oracle): {found}")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=some_path, nargs="+", help="folders of finished runs")
    parser.add_argument("--data", type=some_path, required=True, help="folder with mnistm/, svhn/ and usps/")
    parser.add_argument("--out", type=some_path, required=True, help="the CSV to add to")
    arguments = parser.parse_args(argv)
    measurements = Measurements(arguments.out)
    runs = {path: read_run(path) for path in arguments.runs}
    source = drawn(load_digits(arguments.data / SOURCE, "val.csv"))
    sets: dict[str, list[DigitSet]] = {}
    for path, run in runs.items():
        target = run.target
        row = {"weights": run.weights, "run": run.run, "target": target}
        if measurements.has(row):
            continue
        if target not in sets:
            sets[target] = [drawn(load_digits(arguments.data / target, f"{split}.csv")) for split in ("train", "val")]
        measurements.add(row | measure(run, path / "weights.pt", source, *sets[target]))
    print_correlations(pd.DataFrame(measurements.rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
