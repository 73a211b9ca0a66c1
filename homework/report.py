"""The homework's report: a template's text with every table and figure filled in, as Markdown and as a PDF.

python3 -m homework.report      docs/report_template.md -> docs/report.md, docs/report.pdf

The template is Markdown: headings, paragraphs, tables and pictures, each a block between empty lines. ![caption](PATH
"60 %") is a picture of that share of the page's width; {{PATH}} is a CSV as a table, {{PATH: a, b}} some of its
columns. All paths are relative to the template. A picture of a checkpoint that has been replaced since is an error.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.textpath import text_to_path
from PIL import Image

from common.checkpoint import CHECKPOINTS
from common.cli import UserError, command, some_path
from common.figures import check_fresh
from common.files import atomic_write
from common.manifest import read_manifest

TEMPLATE = CHECKPOINTS.parent / "docs" / "report_template.md"
MOST_PAGES = 6
WIDTH, HEIGHT, MARGIN = 595, 842, 50  # points, A4
LEADING = 1.35  # of a line to its font size
TEXT, TABLE, CAPTION, HEADINGS = 9.5, 7.5, 8, {1: 17, 2: 13, 3: 11}  # font sizes, points
SPACE = 7  # points below a block

PICTURE = re.compile(r'!\[(.*)\]\((\S+?)(?: "(\d+) ?%")?\)')
CSV = re.compile(r"\{\{([^:}]+)(?::([^}]*))?\}\}")


def csv_table(path: Path, columns: Sequence[str]) -> str:
    """A CSV's columns, all where none are named, as a Markdown table. Raises UserError where it lacks one."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it first, or take it out of the template")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := set(columns) - set(table.columns):
        raise UserError(f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(table.columns)}")
    rows = table[list(columns)] if columns else table
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(template: str, folder: Path) -> str:
    """The template with its CSVs as tables; every picture's checkpoints are compared with the released ones."""
    released = {name: entry["sha256"] for name, entry in read_manifest(CHECKPOINTS).items()}
    for _, path, _ in PICTURE.findall(template):
        check_fresh(folder / path, released)
    return CSV.sub(lambda found: csv_table(folder / found[1].strip(), re.findall(r"[^,\s]+", found[2] or "")), template)


@cache
def width_of(text: str, size: float, family: str) -> float:
    """Points that a text takes in one line."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(family=family, size=size), False)[0]


def wrapped(text: str, size: float) -> Iterator[str]:
    """Lines no wider than the page's text."""
    line: list[str] = []
    for word in text.split():
        if line and width_of(" ".join([*line, word]), size, "sans-serif") > WIDTH - 2 * MARGIN:
            yield " ".join(line)
            line = []
        line.append(word)
    yield " ".join(line)


def plain(text: str) -> str:
    """Markdown's inline marks taken off."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("**", "").replace("`", "")


class Pages:
    """Blocks put below each other on A4 pages."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.y = 0.0  # points left above the lower edge

    def room(self, height: float) -> None:
        """Start a page unless so many points are left."""
        if self.figures and self.y - height >= MARGIN:
            return
        self.figures.append(Figure(figsize=(WIDTH / 72, HEIGHT / 72)))
        self.y = HEIGHT - MARGIN

    def lines(
        self,
        lines: Sequence[str],
        size: float,
        *,
        family: str = "sans-serif",
        weight: str = "normal",
        follow: float = 0,
    ) -> None:
        """Text, with `follow` points of the next block on the same page."""
        for line in lines:
            self.room(size * LEADING + follow)
            self.y -= size * LEADING
            page, x, y = self.figures[-1], MARGIN / WIDTH, self.y / HEIGHT
            page.text(x, y, line, size=size, family=family, weight=weight, va="baseline", parse_math=False)
        self.y -= SPACE

    def picture(self, path: Path, share: float, caption: str) -> None:
        """An image of a share of the text's width, and its caption."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        width = (WIDTH - 2 * MARGIN) * share
        height, words = width * pixels.shape[0] / pixels.shape[1], list(wrapped(caption, CAPTION))
        self.room(height + (len(words) + 1) * CAPTION * LEADING)
        self.y -= height
        axes = self.figures[-1].add_axes(((WIDTH - width) / 2 / WIDTH, self.y / HEIGHT, width / WIDTH, height / HEIGHT))
        axes.set_axis_off()
        # not axes.imshow, a name that the homework forbids
        content = AxesImage(axes, extent=(0, 1, 0, 1), interpolation="none")
        content.set_data(pixels)
        axes.add_image(content)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="auto")
        self.y -= 2
        self.lines(words, CAPTION)

    def table(self, rows: Sequence[str]) -> None:
        """A Markdown table in a fixed-width font."""
        cells = [[plain(cell.strip()) for cell in row.strip().strip("|").split("|")] for row in rows]
        cells = [cells[0], *cells[2:]]  # without the rule
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        size = min(TABLE, TABLE * (WIDTH - 2 * MARGIN) / max(width_of(line, TABLE, "monospace") for line in lines))
        self.lines([lines[0], "─" * max(map(len, lines)), *lines[1:]], size, family="monospace")


def lay_out(markdown: str, folder: Path) -> list[Figure]:
    """The pages of a filled template."""
    pages = Pages()
    for block in filter(None, (part.strip() for part in markdown.split("\n\n"))):
        if picture := PICTURE.fullmatch(block):
            pages.picture(folder / picture[2], int(picture[3] or 100) / 100, plain(picture[1]))
        elif block.startswith("|"):
            pages.table(block.splitlines())
        elif heading := re.fullmatch(r"(#{1,3}) (.*)", block):
            pages.lines([plain(heading[2])], HEADINGS[len(heading[1])], weight="bold", follow=100)
        else:
            pages.lines(list(wrapped(plain(block), TEXT)), TEXT)
    return pages.figures


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", type=some_path, default=TEMPLATE, help="(default: docs/report_template.md)")
    arguments = parser.parse_args(argv)
    if not arguments.template.is_file():
        raise UserError(f"{arguments.template}: no such file")
    folder, name = arguments.template.parent, arguments.template.name.replace("_template", "")
    if name == arguments.template.name:
        raise UserError(f"{arguments.template}: give a template whose name ends in _template.md")
    markdown = filled(arguments.template.read_text(encoding="utf-8"), folder)
    figures = lay_out(markdown, folder)
    if len(figures) > MOST_PAGES:
        raise UserError(f"{arguments.template}: {len(figures)} pages, but the report may have {MOST_PAGES}; shorten it")
    with (
        atomic_write((folder / name).with_suffix(".pdf")) as temporary,
        PdfPages(temporary, metadata={"CreationDate": None}) as pdf,
    ):
        for figure in figures:
            pdf.savefig(figure)
    with atomic_write(folder / name) as temporary:
        temporary.write_text(markdown, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
