"""The homework's report and the MNIST homeworks', docs/{report,mnist_report,hku_report}.typ, as PDFs beside them.

python3 -m homework.report
python3 -m homework.report docs/report.typ --pages runs/pages      one report, and each of its pages as a picture

The sources read the tables of docs/ themselves. A figure that was drawn from weights or tables which have changed since
is an error, and so are too many pages.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.checkpoint import CHECKPOINTS
from common.cli import UserError, command, some_path, wrote
from common.figures import check_fresh
from common.files import atomic_write
from common.manifest import read_manifest, sha256

DOCS = CHECKPOINTS.parent / "docs"
SOURCES = {DOCS / "report.typ": 6, DOCS / "mnist_report.typ": 5, DOCS / "hku_report.typ": 2}  # pages at most
MOST_PAGES = 6  # of others


def check_figures(folder: Path) -> None:
    """Raise UserError unless every figure in folder/figures is of the released checkpoints and folder's tables."""
    current = {name: entry["sha256"] for name, entry in read_manifest(CHECKPOINTS).items()}
    current |= {path.name: sha256(path) for path in folder.glob("*.csv")}
    for path in sorted((folder / "figures").iterdir()):
        check_fresh(path, current)


def compiled(source: Path, **options: Any) -> list[bytes]:
    """What Typst makes of a source. Raises UserError, with Typst's words, where it can't."""
    import typst  # of requirements-report.txt

    try:
        result = typst.compile(source, ignore_system_fonts=True, **options)
    except RuntimeError as error:  # typst.TypstError, whose message is on the first line
        raise UserError(f"{source}: {str(error).strip().splitlines()[0]}") from None
    return result if isinstance(result, list) else [result]


def build(source: Path, pages: Path | None) -> None:
    """Write a source's PDF beside it and, where a folder is given, its pages as pictures."""
    if not source.is_file():
        raise UserError(f"{source}: no such file")
    check_figures(source.parent)
    pictures, most = compiled(source, format="png", ppi=110), SOURCES.get(source.resolve(), MOST_PAGES)
    if len(pictures) > most:
        raise UserError(f"{source}: {len(pictures)} pages, but a report may have {most}; shorten it")
    files = {source.with_suffix(".pdf"): compiled(source, format="pdf")[0]}
    if pages:
        files |= {pages / f"{source.stem}_{number}.png": page for number, page in enumerate(pictures, start=1)}
    for path, content in files.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        wrote(path)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=some_path, nargs="*", default=[*SOURCES], help="(default: all reports)")
    parser.add_argument("--pages", type=some_path, help="folder for the pages as pictures, too")
    arguments = parser.parse_args(argv)
    for source in arguments.sources:
        build(source, arguments.pages)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
