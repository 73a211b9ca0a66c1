"""The homework's table from finished runs: trained on source, adapted, trained on target, for both scenarios.

python3 -m p3_dann.table runs/p3_*
"""
import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli import UserError, command

ROWS = {"source": "trained on source", "dann": "adapted (DANN)", "target": "trained on target"}
COLUMNS = {"svhn": "MNIST-M → SVHN", "usps": "MNIST-M → USPS"}


def collect(runs: Sequence[Path]) -> dict[tuple[str, str], list[float]]:
    """Val accuracies by (mode, target), one per run. Raises UserError where a run isn't finished."""
    accuracies = defaultdict(list)
    for run in runs:
        if not (run / "result.json").is_file():
            raise UserError(f"{run}: no result.json; finish the run with p3_dann.train")
        result = json.loads((run / "result.json").read_text())
        for target, accuracy in result["val_accuracy"].items():
            accuracies[result["mode"], target].append(accuracy)
    return accuracies


def cell(values: Sequence[float]) -> str:
    """Per cent, with standard deviation and number of seeds where there are several."""
    if not values:
        return "–"
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f} ({len(values)} seeds)"


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    accuracies = collect(parser.parse_args(argv).runs)
    print("| val accuracy, % | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for mode, title in ROWS.items():
        print(f"| {title} | " + " | ".join(cell(accuracies.get((mode, target), [])) for target in COLUMNS) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
