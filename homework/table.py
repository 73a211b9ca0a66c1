"""What was checked, as rows; tables for the terminal, which are Markdown, too."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

UNKNOWN = "–"


class Row(NamedTuple):
    """A rule, or a score that earns points."""

    check: str
    passed: bool | None  # None: can't be checked here
    most: int = 0  # points
    reached: str = UNKNOWN
    required: str = ""
    mend: str = ""

    def cells(self) -> list[str]:
        verdict = {None: UNKNOWN, True: "pass", False: "FAIL"}[self.passed]
        points = f"{self.most if self.passed else 0}/{self.most}" if self.most and self.passed is not None else verdict
        return [self.check, points, self.reached, self.required, self.mend]


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table whose columns line up."""
    table = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in table]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    """All rows and the sum of the points, as a table or as JSON."""
    checked = [row for row in rows if row.passed is not None]
    points, most = sum(row.most for row in checked if row.passed), sum(row.most for row in checked)
    if as_json:
        print(json.dumps({"points": points, "most": most, "rows": [row._asdict() for row in rows]}, indent=1))
    else:
        cells = [*(row.cells() for row in rows), ["total", f"{points}/{most}" if most else "", "", "", ""]]
        print(markdown_table(["check", "points", "reached", "required", "mend"], cells))
