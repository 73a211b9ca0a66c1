"""Tables from finished runs of problem 3. Runs that differ in their seed alone are one group, with mean and deviation.

python3 -m p3_dann.table runs/p3_* --out docs/p3_table.csv  the homework's rows, and the released recipe
python3 -m p3_dann.table --ablation runs/full_* runs/no_*   a row for each group: how it differs from the first, results

The second ends with the rank correlation of the label-free agreement (evaluate.py) and the accuracy. That uses target
labels: it is an oracle's look back, and chose nothing.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from common.cli import UserError, command
from common.files import atomic_write

SOURCE, DANN, SELF_TRAINING, TARGET = ROWS = (
    "trained on source",
    "adaptation (DANN)",
    "DANN with self-training (released)",
    "trained on target",
)
COLUMNS = {"svhn": "MNIST-M → SVHN", "usps": "MNIST-M → USPS"}
NOT_COMPARED = {"seed", "save_every", "log_every", "fingerprint"}  # what runs of one group may differ in


@dataclass(frozen=True)
class Run:
    path: Path
    options: dict[str, Any]  # without NOT_COMPARED
    val_accuracy: float
    agreement: float

    @property
    def minutes(self) -> float:
        """How long the training steps took."""
        rows = [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]
        return float(np.mean([row["seconds"] for row in rows]) * rows[-1]["step"] / 60)


def read_run(path: Path) -> Run:
    """Raises UserError where the run isn't finished."""
    if not (path / "result.json").is_file():
        raise UserError(f"{path}: no result.json; finish the run with p3_dann.train")
    options = {
        name: value for part in json.loads((path / "options.json").read_text()).values() for name, value in part.items()
    }
    result = json.loads((path / "result.json").read_text())
    return Run(
        path, {k: v for k, v in options.items() if k not in NOT_COMPARED}, result["val_accuracy"], result["agreement"]
    )


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of equal options together, in order of first appearance."""
    groups: list[list[Run]] = []
    for run in runs:
        group = next((group for group in groups if group[0].options == run.options), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def row_of(run: Run) -> str:
    """Which of the homework's rows a run belongs to."""
    if run.options["mode"] != "dann":
        return SOURCE if run.options["mode"] == "source" else TARGET
    return SELF_TRAINING if any(run.options[name] for name in ("entropy", "balance", "pseudo")) else DANN


def cell(values: Sequence[float]) -> str:
    """Per cent, with standard deviation and number of seeds where there are several."""
    if not values:
        return "–"
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f} ({len(values)} seeds)"


def different(run: Run, reference: Run) -> str:
    """How a run's options differ from another's, "" where they don't."""
    return ", ".join(f"{name} {value}" for name, value in run.options.items() if value != reference.options.get(name))


def homework_table(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Cells by the title of their row.

    Where a row would hold several groups of one target, each gets a row that names its options.
    """
    rows: dict[str, list[str]] = {}
    for title in ROWS:
        groups = {
            target: grouped([r for r in runs if row_of(r) == title and r.options["target"] == target])
            for target in COLUMNS
        }
        rows[title] = [cell([run.val_accuracy for group in groups[target][:1] for run in group]) for target in COLUMNS]
        for number, target in enumerate(COLUMNS):
            for group in groups[target][1:]:
                cells = ["–"] * len(COLUMNS)
                cells[number] = cell([run.val_accuracy for run in group])
                rows[f"{title}, {different(group[0], groups[target][0][0])}"] = cells
    return rows


def print_ablation(runs: Sequence[Run]) -> None:
    """A Markdown table of groups with one target, and how well agreement ranks the runs."""
    groups = grouped(runs)
    reference = groups[0][0]
    print("| options | val accuracy, % | agreement, % | minutes |\n|---|---|---|---|")
    for group in groups:
        target, wanted = group[0].options["target"], reference.options["target"]
        if target != wanted:
            raise UserError(
                f"{group[0].path}: target {target}, but {reference.path} has {wanted}; give runs of one target"
            )
        accuracy, agreement = cell([run.val_accuracy for run in group]), cell([run.agreement for run in group])
        minutes = np.mean([run.minutes for run in group])
        print(f"| {different(group[0], reference) or 'all parts'} | {accuracy} | {agreement} | {minutes:.1f} |")
    if len(runs) > 2:
        correlation = spearmanr([run.agreement for run in runs], [run.val_accuracy for run in runs]).statistic
        print(f"\nrank correlation of agreement and accuracy over {len(runs)} runs (oracle): {correlation:.2f}")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--out", type=Path, help="write the homework's table as a CSV, too")
    arguments = parser.parse_args(argv)
    runs = [read_run(path) for path in arguments.runs]
    if arguments.ablation:
        print_ablation(runs)
        return 0
    rows = homework_table(runs)
    print("| val accuracy, % | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for title, cells in rows.items():
        print(f"| {title} | " + " | ".join(cells) + " |")
    if arguments.out:
        with atomic_write(arguments.out) as temporary:
            pd.DataFrame.from_dict(rows, orient="index", columns=[*COLUMNS.values()]).to_csv(
                temporary, index_label="val accuracy, %"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
