"""Tables that people make: CSV files with a line of names, whose wrong cells are named by row and column."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate import store
from curate.errors import DataError, nearest


@dataclass(frozen=True)
class Table:
    """`rows` of words by the names of columns, `path` for messages. Row 1 is the line of names."""

    path: str
    names: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def need(self, *columns: str) -> None:
        """DataError if a column is missing."""
        for name in columns:
            if name not in self.names:
                hint = nearest(name, self.names) or f"; found are {', '.join(self.names)}"
                raise DataError(f"{self.path} has no column '{name}'{hint}")

    def either(self, columns: Sequence[str]) -> str:
        """The one of these columns that is there. DataError if none is, or several are."""
        there = [name for name in columns if name in self.names]
        if len(there) != 1:
            found = " and ".join(f"'{name}'" for name in there) or "none of them"
            raise DataError(f"{self.path}: one column of {', '.join(columns)} is wanted, found {found}")
        return there[0]

    def word(self, row: int, name: str) -> str:
        """A cell that is not empty."""
        text = self.rows[row][name]
        if not text:
            raise DataError(f"{self.path}, row {row + 2}, column '{name}' is empty")
        return text

    def number(self, row: int, name: str, *, least: float = -math.inf, most: float = math.inf) -> float:
        """A cell as a finite number within bounds."""
        text = self.rows[row][name]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most):
            bounds = "" if least == -math.inf else f" of {least:g} or more" if most == math.inf else ""
            bounds = bounds or (f" from {least:g} to {most:g}" if most < math.inf else "")
            raise DataError(f"{self.path}, row {row + 2}, column '{name}': {text!r}; a finite number{bounds} is wanted")
        return value


def read(path: str) -> Table:
    """A CSV file in UTF-8; blanks around cells do not count. DataError if it is none, or has no rows."""
    try:
        lines = [line for line in csv.reader(io.StringIO(store.read(path).decode("utf-8-sig")), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path} has {max(0, len(lines) - 1)} rows below its line of names; one or more are wanted")
    names = tuple(name.strip() for name in lines[0])
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"{path}: each column has a name of its own; found {', '.join(names)}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(names):
            raise DataError(f"{path}, row {number}: {len(line)} cells where the line of names has {len(names)}")
    rows = tuple(dict(zip(names, (cell.strip() for cell in line), strict=True)) for line in lines[1:])
    return Table(path, names, rows)
