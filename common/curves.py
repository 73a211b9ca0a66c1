"""What trainings said of themselves, as curves over their steps.

python3 -m common.curves RUN ... --out FILE      several runs in one picture

A training draws its own into RUN/curves.png whenever its state is saved.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from common.cli import UserError, command, some_path
from common.figures import save_figure

FIRST = ["loss", "learning_rate", "gradient_norm"]  # then the others by name
LOGARITHMIC = ("loss", "gradient_norm")  # unless a value is 0 or less
COLUMNS, PANEL_HEIGHT = 3, 2.8  # inches
POINTS = 2000  # of a run; a picture has no room for more


def read_metrics(run: Path) -> list[dict[str, float | None]]:
    """The lines of a run's metrics.jsonl, evenly thinned to at most POINTS; an unfinished one is left out.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the --run-dir of a training")
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        every = math.ceil(len(lines) / POINTS) or 1
        rows = [json.loads(line) for line in lines[every - 1 :: every]]
        if not all(isinstance(row["step"], int) for row in rows):
            raise ValueError("a line without a step")
        if not all(isinstance(value, int | float | None) for row in rows for value in row.values()):
            raise ValueError("a value that is no number")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not the metrics of a training ({error})") from None
    return rows


def draw_curves(runs: Sequence[Path]) -> Figure:
    """A panel for every metric, in it a line for every run that has it. Raises like `read_metrics`."""
    metrics = {str(run): read_metrics(run) for run in runs}
    found = {name for rows in metrics.values() for row in rows for name in row} - {"step"}
    names = [*(name for name in FIRST if name in found), *sorted(found - {*FIRST})]
    height = max(1, math.ceil(len(names) / COLUMNS))
    figure = Figure(figsize=(4.5 * COLUMNS, PANEL_HEIGHT * height))
    inch = 1 / (PANEL_HEIGHT * height)
    figure.subplots_adjust(left=0.05, right=0.99, top=1 - 0.4 * inch, bottom=0.55 * inch, hspace=0.3)
    figure.supxlabel("step", y=0.1 * inch, fontsize="medium")
    for place, name in enumerate(names, start=1):
        panel = figure.add_subplot(height, COLUMNS, place, title=name.replace("_", " "))
        lowest = math.inf
        for run, rows in metrics.items():
            points = [(row["step"], value) for row in rows if (value := row.get(name)) is not None]
            lowest = min([lowest, *(value for _, value in points)])
            if points:
                panel.plot(*zip(*points), linewidth=1, label=run)
        if name in LOGARITHMIC and 0 < lowest < math.inf:
            panel.set_yscale("log")
        if place == 1 and len(runs) > 1:
            panel.legend(fontsize="small")
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=some_path, nargs="+", metavar="RUN", help="folder of a training")
    parser.add_argument("--out", type=some_path, required=True, help="PNG to write")
    arguments = parser.parse_args(argv)
    save_figure(draw_curves(arguments.runs), arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
