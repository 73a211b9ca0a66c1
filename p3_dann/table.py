"""Tables of finished runs of problem 3. Runs that differ only in their seed, or in whether their machine has bf16, are
one group, with mean and deviation.

python3 -m p3_dann.table runs/p3_* --results docs/p3_runs.csv                       keeps runs in a CSV, a row each
python3 -m p3_dann.table --results docs/p3_runs.csv --out docs/p3_table.csv         the homework's rows
python3 -m p3_dann.table --results docs/p3_runs.csv --ablation svhn --steps 1200    a row for each group of one target

The first two print the homework's rows. Of several groups that belong to one, it shows the one of most seeds, then of
most steps. The third ends with the rank correlation of the label-free agreement (evaluate.py) and the accuracy. That
uses target labels: it is an oracle's look back, and chose nothing.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from common.cli import UserError, command, some_path, wrote
from common.files import atomic_write
from p3_dann.runs import WHOLE, Results, Run, read_run
from p3_dann.train import TARGETS

ROWS = {
    "source": "trained on source",
    "dann_alone": "adaptation (DANN)",
    WHOLE: "DANN with self-training (released)",
    "target": "trained on target",
}
COLUMNS = {"svhn": "MNIST-M → SVHN", "usps": "MNIST-M → USPS"}
APART = ("data", "processes")  # fields of a run
Table = tuple[str, Sequence[str], dict[str, list[str]]]  # title of the rows' names, titles of columns, cells by row


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of the same `Run.group` together, in order of first appearance."""
    groups: dict[object, dict[object, Run]] = {}
    for run in runs:
        group, training = groups.setdefault(run.group, {}), (run.seed, run.computed_in)
        if training in group:
            raise UserError(f"{run.run} and {group[training].run}: the same training twice; leave one out")
        group[training] = run
    return [[*group.values()] for group in groups.values()]


def cell(runs: Sequence[Run], name: str) -> str:
    """A share in per cent, with standard deviation and number where there are several runs; – where one isn't known."""
    values = [getattr(run, name) for run in runs]
    if any(map(math.isnan, values)):
        return "–"
    mean = f"{100 * np.mean(values):.1f}"
    counted = "seeds" if len({run.seed for run in runs}) == len(runs) else "trainings"
    return mean if len(runs) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f} ({len(runs)} {counted})"


def homework_table(runs: Sequence[Run]) -> Table:
    """The homework's rows; runs that change more than a preset and the steps are in none."""
    rows = {title: ["–"] * len(COLUMNS) for title in ROWS.values()}
    for preset, title in ROWS.items():
        for column, target in enumerate(COLUMNS):
            groups = grouped([r for r in runs if (r.preset, r.target, r.changes) == (preset, target, "")])
            if groups:
                shown = max(groups, key=lambda group: (len(group), group[0].steps, group[0].group))
                rows[title][column] = cell(shown, "val_accuracy")
    return "val accuracy, %", [*COLUMNS.values()], rows


def distinct_titles(groups: Sequence[Sequence[Run]]) -> list[str]:
    """By a group's preset, what else is changed, its steps where these differ, and where others have the same title, by
    what differs between them: data, processes.
    """
    firsts = [group[0] for group in groups]
    of_one_length = len({run.steps for run in firsts}) == 1
    titles = [run.title + ("" if of_one_length else f", --steps {run.steps}") for run in firsts]
    alike = [[other for other, title in zip(firsts, titles) if title == own] for own in titles]
    return [
        ", ".join([title, *(f"{name} {getattr(run, name)}" for name in APART if differ(others, name))])
        for title, run, others in zip(titles, firsts, alike)
    ]


def differ(runs: Sequence[Run], name: str) -> bool:
    """Whether runs have different values of a field."""
    return len({getattr(run, name) for run in runs}) > 1


def minutes_cell(runs: Sequence[Run]) -> str:
    """The mean, or that of each precision where there are several; – where one isn't known."""
    if any(math.isnan(run.minutes) for run in runs):
        return "–"
    means = pd.DataFrame(runs).groupby("computed_in")["minutes"].mean()
    return ", ".join(f"{mean:.1f} in {name}" if len(means) > 1 else f"{mean:.1f}" for name, mean in means.items())


def ablation_table(runs: Sequence[Run]) -> Table:
    """A row for each group."""
    rows: dict[str, list[str]] = {}
    groups = grouped(runs)
    for title, group in zip(distinct_titles(groups), groups):
        rows[title] = [cell(group, "val_accuracy"), cell(group, "agreement"), minutes_cell(group)]
    return "recipe", ("val accuracy, %", "agreement, %", "minutes"), rows


def print_table(first: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    """In Markdown."""
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
    parser.add_argument("runs", type=some_path, nargs="*", help="folders of finished runs")
    parser.add_argument("--results", type=some_path, help="CSV to add the runs to; the table is of all that it has")
    parser.add_argument("--ablation", choices=TARGETS, help="a row for each group of this target's runs instead")
    parser.add_argument("--steps", type=int, help="only runs of so many steps")
    parser.add_argument("--out", type=some_path, help="write the table as a CSV, too")
    arguments = parser.parse_args(argv)
    runs = [read_run(path) for path in arguments.runs]
    if arguments.results:
        results = Results(arguments.results)
        for run in runs:
            results.add(run)
        runs = results.runs()
    wanted = [run for run in runs if arguments.steps in (None, run.steps) and arguments.ablation in (None, run.target)]
    if not wanted:
        raise UserError("no such runs; give folders of finished runs, or --results with a CSV that has them")
    table = ablation_table(wanted) if arguments.ablation else homework_table(wanted)
    print_table(*table)
    known = [(run.agreement, run.val_accuracy) for run in wanted if not math.isnan(run.agreement)]
    if arguments.ablation and len(known) > 2:
        correlation = spearmanr(*zip(*known)).statistic
        print(f"\nrank correlation of agreement and accuracy over {len(known)} runs (oracle): {correlation:.2f}")
    if arguments.out:
        write_table(arguments.out, *table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
