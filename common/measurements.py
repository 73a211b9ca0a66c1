"""Measurements in a CSV, a row for every setting: what it has is not measured again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.cli import UserError
from common.files import atomic_write

WORDS = ("weights", "labels", "reference")  # columns that may look like numbers


def read_measurements(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV of measurements. Raises UserError where it isn't one or lacks a column."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str))
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path}: not a CSV ({str(error).strip()})") from None
    if missing := [name for name in ("weights", *columns) if name not in table]:
        raise UserError(f"{path}: no column {', '.join(missing)}; give a CSV of measurements")
    return table


class Measurements:
    """The rows of a CSV, written anew with every row that is added."""

    def __init__(self, path: Path, order: Sequence[str] = ()):
        """The rows that `path` has, if any, kept in the order of some columns.

        Raises UserError where it is something else, or some numbers of such a column are none.
        """
        self.path, self.order = path, list(order)
        table = read_measurements(path) if path.exists() else pd.DataFrame()
        for name in {*order} & {*table} - {*WORDS}:
            numbers = pd.to_numeric(table[name], errors="coerce")
            if numbers.notna().any() and numbers.isna().any():
                raise UserError(f"{path}: {name} is not a number in every row; mend that row, or take it out")
        self.rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]

    def find(self, setting: dict[str, Any]) -> dict[str, Any] | None:
        """The row that has these values, whatever else it has, or None."""
        return next((row for row in self.rows if setting.items() <= row.items()), None)

    def has(self, setting: dict[str, Any]) -> bool:
        """Whether there is such a row."""
        return self.find(setting) is not None

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, numbers to four digits, and print it."""
        self.rows.append(row)
        table = pd.DataFrame(self.rows).round(4)
        with atomic_write(self.path) as temporary:
            (table.sort_values(self.order, kind="stable") if self.order else table).to_csv(temporary, index=False)
        print(table[-1:].to_string(index=False), flush=True)
