"""Print pass or fail for every rule of the homework, with the margin; exit code 1 where one fails (rehearsal.sh)."""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.files import REPOSITORY
from homework import demo

SCRIPTS = ("hw2_download.sh", "hw2_1.sh", "hw2_2.sh", "hw2_3.sh")
INFERENCE = ("homework/download.py", "p1_cond_ddpm/sample.py", "p2_ddim/sample.py", "p3_dann/predict.py")
PACKAGES = set(
    "numpy torch torchvision sklearn timm transformers matplotlib PIL imageio scipy skimage".split()
    + "pandas tqdm gdown yaml".split()
)
FORBIDDEN = re.compile(r"\bsudo\b|CUDA_VISIBLE_DEVICES|\b(im)?show\(|from_pretrained|pretrained=True")
ABSOLUTE = re.compile(r"[\"'= ](/(home|root|Users|mnt|tmp|data|work)/[^\"' ]*)")
LARGEST = 50e6
LIMITS = {"1": 900, "2": 300, "3": 600}  # seconds


class Result(NamedTuple):
    rule: str
    passed: bool
    detail: str


def source_files() -> list[Path]:
    """The committed shell and Python files that are not tests."""
    listed = subprocess.run(
        ["git", "ls-files", "*.sh", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [REPOSITORY / name for name in listed.stdout.split("\n") if name and not name.startswith("tests/")]


def found(pattern: re.Pattern, files: Iterable[Path]) -> list[str]:
    """Where a pattern stands: file:line."""
    return [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def imported(start: Path, seen: set[Path]) -> Iterator[str]:
    """Top-level names of all packages that a module and the repository's modules behind it import."""
    if start in seen:
        return
    seen.add(start)
    for node in ast.walk(ast.parse(start.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            local = REPOSITORY / (name.replace(".", "/") + ".py")
            if local.is_file():
                yield from imported(local, seen)
            elif not (REPOSITORY / name.split(".")[0]).is_dir():
                yield name.split(".")[0]


def static_rules() -> Iterator[Result]:
    missing = [name for name in SCRIPTS if not os.access(REPOSITORY / name, os.X_OK)]
    yield Result("scripts are there and executable", not missing, ", ".join(missing or SCRIPTS))
    files = [
        path for path in REPOSITORY.rglob("*") if path.is_file() and ".git" not in path.relative_to(REPOSITORY).parts
    ]
    largest = max(files, key=lambda path: path.stat().st_size)
    size = largest.stat().st_size
    yield Result(
        "no file over 50 MB", size <= LARGEST, f"largest {size / 1e6:.1f} MB, {largest.relative_to(REPOSITORY)}"
    )
    pictures = [
        p
        for p in files
        if p.suffix in (".png", ".jpg", ".webp") and p.relative_to(REPOSITORY).parts[:2] != ("docs", "figures")
    ]
    yield Result(
        "no data set",
        not pictures and not (REPOSITORY / "hw2_data").exists(),
        f"{len(pictures)} pictures outside docs/figures",
    )
    for rule, pattern in (("no forbidden command", FORBIDDEN), ("no absolute path", ABSOLUTE)):
        places = found(pattern, source_files())
        yield Result(rule, not places, ", ".join(places) or f"{len(source_files())} files")
    names = {name for script in INFERENCE for name in imported(REPOSITORY / script, set())} - set(
        sys.stdlib_module_names
    )
    yield Result("graded packages only", names <= PACKAGES, ", ".join(sorted(names - PACKAGES or names)))


def runs(out: Path) -> Iterator[Result]:
    """The graded scripts on real input or stand-ins (demo.py), against the baselines and the time limits."""
    demo.timed("bash", REPOSITORY / "hw2_download.sh")
    data = demo.find_data(out)
    rows = [demo.digits(out), demo.faces(out, data)]
    rows += (
        [demo.domain(out, data, name, least) for name, least in demo.DOMAINS.items()]
        if data
        else [demo.domain_stand_in(out)]
    )
    for row in rows:
        reached, required = (float(value.strip("<% ")) for value in (row.reached, row.required))
        good = reached < required if row.required.startswith("<") else reached >= required
        yield Result(f"problem {row.problem}: {row.metric}", good, f"{row.reached}, required {row.required}")
        limit = LIMITS[row.problem[0]]
        yield Result(
            f"problem {row.problem}: time, {row.metric}", row.seconds <= limit, f"{row.seconds:.0f} s of {limit} s"
        )


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for results in (static_rules(), runs(Path(folder))):
            for rule, passed, detail in results:
                failed += not passed
                print(f"{'pass' if passed else 'FAIL'}  {rule}: {detail}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
