"""Tables from finished runs of problem 3. Runs that differ in their seed alone are one group, with mean and deviation.

python3 -m p3_dann.table runs/p3_* --out docs/p3_table.csv  the homework's rows, and the released recipe
python3 -m p3_dann.table --ablation runs/full_* runs/no_*   a row for each group: how it differs from the first, results

The second ends with the rank correlation of the label-free agreement (evaluate.py) and the accuracy. That uses target
labels: it is an oracle's look back, and chose nothing.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from common.cli import UserError, command, some_path, wrote
from common.files import atomic_write
from common.run_folder import as_typed, read_settings

SOURCE, DANN, SELF_TRAINING, TARGET = ROWS = (
    "trained on source",
    "adaptation (DANN)",
    "DANN with self-training (released)",
    "trained on target",
)
COLUMNS = {"svhn": "MNIST-M → SVHN", "usps": "MNIST-M → USPS"}
NOT_COMPARED = {"seed", "save_every", "log_every"}  # what runs of one group may differ in


@dataclass(frozen=True)
class Run:
    path: Path
    options: dict[str, Any]  # without NOT_COMPARED
    val_accuracy: float
    agreement: float

    @property
    def minutes(self) -> float:
        """How long the training steps took, nan where nothing was logged."""
        metrics = self.path / "metrics.jsonl"
        try:
            seconds = [json.loads(line)["seconds"] for line in metrics.read_text(encoding="utf-8").splitlines()]
            return float(np.mean(seconds) * self.options["steps"] / 60) if seconds else math.nan
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{metrics}: not the metrics of a training ({error}); train again") from None


def read_run(path: Path) -> Run:
    """Raises UserError where the run isn't finished with the options that it has."""
    try:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        trained, accuracy, agreement = result["settings"], result["val_accuracy"] + 0.0, result["agreement"] + 0.0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: no result.json, or a damaged one; finish the run with p3_dann.train") from None
    settings = read_settings(path / "options.json")
    if trained != settings:
        raise UserError(f"{path}: result.json is from before its options changed; finish the run with p3_dann.train")
    options = {name: value for section in settings.values() for name, value in section.items()}
    kept = {name: value for name, value in options.items() if name not in NOT_COMPARED}
    return Run(path, kept, accuracy, agreement)


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
    names = [*run.options, *(name for name in reference.options if name not in run.options)]
    changed = [name for name in names if run.options.get(name) != reference.options.get(name)]
    return ", ".join(as_typed(name, run.options.get(name)) for name in changed)


def homework_table(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Cells by the title of their row.

    Where several groups of one target belong to a row, the one of most seeds has its title, but none without an
    adversary; each other has a row that names what differs.
    """
    rows: dict[str, list[str]] = {}
    for title in ROWS:
        rows[title] = ["–"] * len(COLUMNS)
        for column, target in enumerate(COLUMNS):
            groups = grouped([r for r in runs if row_of(r) == title and r.options["target"] == target])
            groups.sort(
                key=lambda group: (not group[0].options["lambda_max"], -len(group), json.dumps(group[0].options))
            )
            for group in groups:
                difference = different(group[0], groups[0][0])
                name = f"{title}, {difference}" if difference else title
                cells = rows.setdefault(name, ["–"] * len(COLUMNS))
                cells[column] = cell([run.val_accuracy for run in group])
    return rows


def ablation_table(runs: Sequence[Run]) -> dict[str, list[str]]:
    """A row for each group of runs with one target, by how its options differ from the first run's."""
    reference, rows = runs[0], {}
    for run in runs:
        target, wanted = run.options["target"], reference.options["target"]
        if target != wanted:
            raise UserError(f"{run.path}: target {target}, but {reference.path} has {wanted}; give runs of one target")
    for group in grouped(runs):
        minutes = np.mean([run.minutes for run in group])
        rows[different(group[0], reference) or "reference"] = [
            cell([run.val_accuracy for run in group]),
            cell([run.agreement for run in group]),
            "–" if math.isnan(minutes) else f"{minutes:.1f}",
        ]
    return rows


def print_table(first: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    """In Markdown; `first` is the title of the rows' names."""
    print(f"| {first} | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for title, cells in rows.items():
        print(f"| {title} | {' | '.join(cells)} |")


def write_table(path: Path, first: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    """The same as a CSV."""
    with atomic_write(path) as temporary:
        pd.DataFrame.from_dict(rows, orient="index", columns=[*columns]).to_csv(temporary, index_label=first)
    wrote(path)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=some_path, nargs="+", help="folders of finished runs")
    parser.add_argument("--ablation", action="store_true", help="a row for each group of options instead")
    parser.add_argument("--out", type=some_path, help="write the table as a CSV, too")
    arguments = parser.parse_args(argv)
    runs = [read_run(path) for path in arguments.runs]
    table: tuple[str, Sequence[str], dict[str, list[str]]]
    if arguments.ablation:
        table = "options", ("val accuracy, %", "agreement, %", "minutes"), ablation_table(runs)
    else:
        table = "val accuracy, %", tuple(COLUMNS.values()), homework_table(runs)
    print_table(*table)
    if arguments.ablation and len(runs) > 2:
        correlation = spearmanr([run.agreement for run in runs], [run.val_accuracy for run in runs]).statistic
        print(f"\nrank correlation of agreement and accuracy over {len(runs)} runs (oracle): {correlation:.2f}")
    if arguments.out:
        write_table(arguments.out, *table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
