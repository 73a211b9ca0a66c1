"""Grade a submission of the homework as the course does: its rules, its scripts' scores, their time and memory.

bash grade.sh SUBMISSION [DATA]                 a folder or a clone, of which what is committed counts
bash grade.sh --outputs FOLDER [DATA]           pictures and predictions that are there: p1/, p2/, svhn.csv, usps.csv
bash grade.sh --homework cvpdl2025 hw3_ID.zip [MNIST]     also nycu2022 and hku2024, a folder or a zip

DATA is a folder like hw2_data/; the stand-ins of demo.sh replace what is missing there. The scripts run on a copy, each
in a process group with its time limit. This is no sandbox: grade only what you would run yourself. Exit code 0 means
that nothing failed; what can't be checked here shows as –. MNIST is its pictures, or mnist.npz of mu and sigma.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli import UserError, command, some_path
from common.images import read_rgb
from homework.problems import LIMITS, Task, find_data, tasks
from homework.rules import DOWNLOAD, SHOWN, static_rules
from homework.runner import run
from homework.siblings import HOMEWORKS
from homework.table import UNKNOWN, Row, print_rows


def copy_submission(submission: Path, place: Path) -> Path:
    """What graders get of a submission: the committed state of a clone, or all of a folder."""
    if not (submission / ".git").exists():
        return Path(shutil.copytree(submission, place, symlinks=True))
    status = ["git", "-C", str(submission), "status", "--porcelain"]
    if subprocess.run(status, capture_output=True, text=True).stdout:
        print(f"warning: {submission}: what isn't committed is not graded", file=sys.stderr)
    clone = subprocess.run(["git", "clone", "--quiet", submission, place], capture_output=True, text=True)
    if clone.returncode:
        raise UserError(f"{submission}: git can't clone it ({clone.stderr.strip().splitlines()[-1]})")
    return place


def run_script(words: Sequence[object], submission: Path, log: Path) -> Row:
    """One script under its limit, as a row: seconds and memory, or why it failed."""
    script = str(words[0])
    done = run(["bash", *words], submission, limit=LIMITS[script], log=log)
    reached = f"{done.seconds:.0f} s, {done.peak / 1e9:.1f} GB"
    why = f"stopped: more than {LIMITS[script]} s" if done.status is None else ""
    if done.status:
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        why = f"exit code {done.status}: {said[-1]}"
    return Row(f"{script} runs", done.status == 0, 0, reached, f"{LIMITS[script]} s", why)


def score_rows(task: Task, failure: str) -> Iterator[Row]:
    """A row for every threshold of a task; no points where its script failed or its output is not whole."""
    score = None
    try:
        score = None if failure else task.score()
    except UserError as error:
        failure = str(error)
    for threshold, most in task.points.items():
        check, required = f"{task.problem}: {task.metric}", task.bound(threshold)
        if score is None:
            yield Row(check, None if task.stand_in else False, most, UNKNOWN, required, failure)
        else:
            reached = f"{task.shown(score)} ({threshold - score if task.lower else score - threshold:+.1f})"
            yield Row(check, task.earned(score, threshold), most, reached, required)


def difference(first: Path, again: Path) -> str:
    """What differs between the pictures of two folders, or nothing."""
    names = [sorted(path.name for path in folder.glob("*.png")) for folder in (first, again)]
    if names[0] != names[1]:
        return "other names"
    for name in names[0]:
        if read_rgb(first / name).tobytes() != read_rgb(again / name).tobytes():
            return name
    return ""


def task_rows(task: Task, submission: Path, out: Path) -> Iterator[Row]:
    """Run a task's script, problem 1's twice, and judge what it wrote."""
    log = out / f"{task.problem.replace(' ', '_')}.log"
    row = run_script([task.script, *task.arguments], submission, log)
    if task.stand_in and not row.passed:
        row = row._replace(passed=None, mend=f"give DATA: on the stand-in, {row.mend}")
    yield row._replace(check=f"{task.problem}: {row.check}")
    yield from score_rows(task, "" if row.passed else row.mend)
    if task.problem.startswith("1") and row.passed:
        again = out / "p1_again"
        repeated = run_script([task.script, again], submission, log)
        other = difference(task.arguments[0], again) if repeated.passed else repeated.mend
        mend = "seed every random generator" if other else ""
        yield Row(f"{task.problem}: same images on every run", not other, 0, other or "two runs", "equal", mend)


def grade(submission: Path, data: Path | None, *, work: Path, out: Path, outputs: bool) -> Iterator[Row]:
    """All rows of a submission, or of a folder of outputs, in turn."""
    if not submission.is_dir():
        raise UserError(f"{submission}: no such folder; give the one that has {'p1/' if outputs else 'hw2_1.sh'}")
    if not outputs:
        copy = copy_submission(submission, work / "submission")
        for rule, broken, mend in static_rules(copy):
            more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
            yield Row(rule, not broken, 0, ", ".join(broken[:SHOWN]) + more or "kept", "", mend if broken else "")
        if (copy / DOWNLOAD).is_file():
            yield run_script([DOWNLOAD], copy, out / "download.log")
    checked = set()
    for task in tasks(work, submission if outputs else out, data or find_data(work), written=outputs):
        checked.add(task.problem)
        yield from score_rows(task, "") if outputs else task_rows(task, copy, out)
    if (svhn := "3 MNIST-M to SVHN") not in checked:
        yield Row(f"{svhn}: accuracy", None, mend="give DATA with digits/svhn")
    for name in ("2 faces: private noises", "3 MNIST-M to SVHN and USPS: private images"):
        yield Row(name, None, required="unknown")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "submission", type=some_path, metavar="SUBMISSION", help="a clone, a folder, or a zip of the MNIST homeworks"
    )
    parser.add_argument(
        "data",
        type=some_path,
        nargs="?",
        metavar="DATA",
        help="real data in the layout of hw2_data/ (default: what is found)",
    )
    parser.add_argument("--homework", choices=["dlcv2023", *HOMEWORKS], default="dlcv2023", help="(default: dlcv2023)")
    parser.add_argument("--outputs", action="store_true", help="SUBMISSION holds what the scripts wrote")
    parser.add_argument("--out", type=some_path, help="new folder for what the scripts write, and their logs")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    arguments = parser.parse_args(argv)
    submission, data = arguments.submission.resolve(), arguments.data.resolve() if arguments.data else None
    if data and not data.exists():
        raise UserError(f"{data}: no such folder; give one like hw2_data/")
    with tempfile.TemporaryDirectory() as folder:
        work, out = Path(folder), (arguments.out or Path(folder) / "out").resolve()
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"--out {out}: not empty; give a new folder")
        out.mkdir(parents=True, exist_ok=True)
        if check := HOMEWORKS.get(arguments.homework):
            rows = list(check(submission, data, work))
        else:
            rows = list(grade(submission, data, work=work, out=out, outputs=arguments.outputs))
    print_rows(rows, as_json=arguments.json)
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
