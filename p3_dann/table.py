"""Tables from finished runs of problem 3.

python3 -m p3_dann.table runs/p3_* --out docs/p3_table.csv  the homework's: source only, adapted, target only
python3 -m p3_dann.table --ablation runs/full runs/no_*     one row a run: how it differs from the first, and its results

The second ends with the rank correlation of the label-free agreement (evaluate.py) and the accuracy. That uses target
labels: it is an oracle's look back, and chose nothing.
"""
import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from common.cli import UserError, command
from common.files import whole_file

ROWS = {"source": "trained on source", "dann": "adapted (DANN)", "target": "trained on target"}
COLUMNS = {"svhn": "MNIST-M → SVHN", "usps": "MNIST-M → USPS"}


def read_result(run: Path) -> dict[str, Any]:
    """What train.py wrote at the end of a run. Raises UserError where the run isn't finished."""
    if not (run / "result.json").is_file():
        raise UserError(f"{run}: no result.json; finish the run with p3_dann.train")
    return json.loads((run / "result.json").read_text())


def collect(runs: Sequence[Path]) -> dict[tuple[str, str], list[float]]:
    """Val accuracies by (mode, target), one per run."""
    accuracies = defaultdict(list)
    for result in map(read_result, runs):
        for target, accuracy in result["val_accuracy"].items():
            accuracies[result["mode"], target].append(accuracy)
    return accuracies


def cell(values: Sequence[float]) -> str:
    """Per cent, with standard deviation and number of seeds where there are several."""
    if not values:
        return "–"
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f} ({len(values)} seeds)"


def read_options(run: Path) -> dict[str, Any]:
    """All options of a run in one dict."""
    return {name: value for part in json.loads((run / "options.json").read_text()).values() for name, value in part.items()}


def minutes(run: Path) -> float:
    """How long the training steps of a run took."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float(np.mean([row["seconds"] for row in rows]) * rows[-1]["step"] / 60)


def print_ablation(runs: Sequence[Path]) -> None:
    """A Markdown table of runs with one target, and how well agreement ranks them."""
    results, reference = [read_result(run) for run in runs], read_options(runs[0])
    target = reference["target"]
    print("| options | val accuracy, % | agreement, % | minutes |\n|---|---|---|---|")
    scores = []
    for run, result in zip(runs, results):
        if target not in result["agreement"]:
            raise UserError(f"{run}: not adapted to {target}, as {runs[0]} is; give runs of one target")
        different = [f"{name} {value}" for name, value in read_options(run).items() if value != reference.get(name)]
        scores.append((result["agreement"][target], result["val_accuracy"][target]))
        agreement, accuracy = (f"{100 * score:.1f}" for score in scores[-1])
        print(f"| {', '.join(different) or 'all parts'} | {accuracy} | {agreement} | {minutes(run):.1f} |")
    if len(runs) > 2:
        print(f"\nrank correlation of agreement and accuracy (oracle): {spearmanr(*zip(*scores)).statistic:.2f}")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--out", type=Path, help="write the homework's table as a CSV, too")
    arguments = parser.parse_args(argv)
    if arguments.ablation:
        print_ablation(arguments.runs)
        return 0
    accuracies = collect(arguments.runs)
    rows = {title: [cell(accuracies.get((mode, target), [])) for target in COLUMNS] for mode, title in ROWS.items()}
    print("| val accuracy, % | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for title, cells in rows.items():
        print(f"| {title} | " + " | ".join(cells) + " |")
    if arguments.out:
        with whole_file(arguments.out) as temporary:
            pd.DataFrame.from_dict(rows, orient="index", columns=[*COLUMNS.values()]).to_csv(temporary, index_label="val accuracy, %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
