"""MNIST's homework from data to archive in one command: train, draw 10,000 images, zip, measure, report, hand in.

python3 -m homework.flow runs/homework r12345678                                  downloads MNIST first
python3 -m homework.flow runs/homework r12345678 --data mnist.npz --steps 9000   and other options of p1_cond_ddpm.train

The training ends with 1,000 steps whose loss makes black exactly black. They keep to presets/clipped.txt.

Stop it whenever you like: the same command goes on. A stage whose file is there is done; delete the file to repeat it.
The report begins as report_ID.typ in this folder, for Typst, with the process and the distance: write its text, then
delete report_ID.pdf and hw3_ID.zip and call this again.
"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import common.fid
import p1_cond_ddpm.process
import p1_cond_ddpm.sample
import p1_cond_ddpm.train
from common.cli import UserError, command, some_path
from common.files import REPOSITORY, atomic_write
from homework import archive, mnist, report

PRESETS = REPOSITORY / "p1_cond_ddpm" / "presets"
CLIPPED = [f"@{PRESETS / 'clipped.txt'}"]
FAST = "--sampler sde --num-steps 16 --early-steps 2".split()
PROCESS = "--sampler ddpm --num-steps 1000 --spacing 1".split()
TEMPLATE = """#set document(date: none)
#set page("a4")

= Image generation: MNIST by DDPM

== Method

Write here what the network is and how it was trained.

== Result

#raw(read("fid.txt"))

== Process

#figure(image("process.png", width: 100%), caption: [Eight samples from noise to digit.])
"""


class Stage(NamedTuple):
    """A step of the work: `run` makes a file and returns an exit code."""

    name: str
    made: Path
    run: Callable[[], int]


def stages(root: Path, student: str, *, data: Path, reference: str, training: Sequence[str]) -> list[Stage]:
    """All steps in order, in a folder, for a student's ID and a training set."""
    first, weights = (root / name / "weights.pt" for name in ("train", "clipped"))
    images, process = root / "images", root / "process.png"
    img, code, distance = root / f"img_{student}.zip", root / f"code_{student}.zip", root / "fid.txt"
    template, pdf = root / f"report_{student}.typ", root / f"report_{student}.pdf"
    submission = root / f"hw3_{student}.zip"
    network = ["--weights", str(weights), "--labels", "none"]

    def draw() -> int:
        count = ["--count", str(archive.COUNT)]
        failed = p1_cond_ddpm.sample.main([str(images), *network, *FAST, *count])
        return failed or archive.main(["images", str(images), str(img)])

    def measure() -> int:
        printed = io.StringIO()
        with redirect_stdout(printed):
            failed = common.fid.main([str(images), reference, "--cache", str(root / "features")])
        if not failed:
            archive.write_text(distance, printed.getvalue())
        return failed

    def begin_report() -> int:
        archive.write_text(template, TEMPLATE)
        return 0

    def typeset() -> int:
        with atomic_write(pdf) as temporary:
            temporary.write_bytes(report.compiled(template, format="pdf")[0])
        return 0

    train = [f"@{PRESETS / 'mnist.txt'}", "--data", str(data), *training]
    clip = [*train, *CLIPPED, "--init", str(first), "--run-dir", str(weights.parent)]
    process_of = [str(process), *network, *PROCESS]
    return [
        Stage("data", data, lambda: mnist.main([str(data)])),
        Stage("training", first, lambda: p1_cond_ddpm.train.main([*train, "--run-dir", str(first.parent)])),
        Stage("blacks", weights, lambda: p1_cond_ddpm.train.main(clip)),
        Stage("images", img, draw),
        Stage("distance", distance, measure),
        Stage("process", process, lambda: p1_cond_ddpm.process.main(process_of)),
        Stage("template", template, begin_report),
        Stage("report", pdf, typeset),
        Stage("code", code, lambda: archive.main(["code", str(code)])),
        Stage("archive", submission, lambda: archive.main(["submission", *map(str, (submission, pdf, code, img))])),
    ]


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=some_path, help="for all that is made")
    parser.add_argument("student", metavar="ID", help="your student ID, part of the files' names")
    parser.add_argument("--data", type=some_path, help="training images, as p1_cond_ddpm.train reads them")
    parser.add_argument("--reference", help="what FID compares with, such as a .npz of mu and sigma (default: --data)")
    arguments, training = parser.parse_known_args(argv)
    archive.check_student(arguments.student)
    if arguments.data and not arguments.data.exists():
        raise UserError(f"{arguments.data}: no such file or folder; leave --data out to download MNIST")
    data = arguments.data or arguments.folder / "mnist.npz"
    reference = arguments.reference or str(data)
    steps = stages(arguments.folder, arguments.student, data=data, reference=reference, training=training)
    for number, stage in enumerate(steps, start=1):
        there = stage.made.exists()
        print(
            f"[{number}/{len(steps)}] {stage.name}: {stage.made}{', there already' if there else ''}", file=sys.stderr
        )
        if not there and (failed := stage.run()):
            return failed
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
