"""Run the graded scripts on real input, judge what they write, print one table (demo.sh).

Real input is hw2_data/ in the repository, or what HW2_REAL_DATA has. What is missing there gets a stand-in, marked so.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from common.cli import UserError, command, some_path, wrote
from common.files import REPOSITORY, atomic_write
from homework.problems import LIMITS, Task, find_data, tasks
from homework.runner import run
from homework.table import markdown_table


class Row(NamedTuple):
    problem: str
    metric: str
    required: str
    reached: str
    seconds: float


def script_seconds(script: str, *arguments: Path) -> float:
    """Run one of our scripts, its output on our stderr. Raises UserError where it fails or is too slow."""
    done = run(["bash", REPOSITORY / script, *arguments], Path.cwd(), limit=LIMITS[script])
    if done.status is None:
        raise UserError(f"{script}: stopped after {LIMITS[script]} s, the homework's limit")
    if done.status:
        raise UserError(f"{script}: failed, see above")
    return done.seconds


def judged(task: Task) -> Row:
    seconds = script_seconds(task.script, *task.arguments)
    return Row(task.problem, task.metric, task.bound(max(task.points)), task.shown(task.score()), seconds)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=some_path, default=REPOSITORY / "runs" / "demo", help="emptied first (default: runs/demo)"
    )
    parser.add_argument("--table", type=some_path, help="write the table as a CSV, too")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    marker = out / ".made-by-demo"
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise UserError(f"--out {out}: holds files that the demo didn't make; give an empty or new folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()
    script_seconds("hw2_download.sh")
    rows = [judged(task) for task in tasks(out, out, find_data(out))]
    print(markdown_table(Row._fields, [row._replace(seconds=round(row.seconds)) for row in rows]))
    if arguments.table:
        with atomic_write(arguments.table) as temporary:
            pd.DataFrame(rows).round({"seconds": 0}).astype({"seconds": int}).to_csv(temporary, index=False)
        wrote(arguments.table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
