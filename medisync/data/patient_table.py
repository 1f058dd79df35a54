"""Reads patients.csv: the columns `path` and `patient`, in any order and among others."""

from dataclasses import dataclass
from pathlib import Path

from medisync.data import text_table

COLUMNS = ("path", "patient")


@dataclass(frozen=True)
class Row:
    path: str
    patient: str


@dataclass(frozen=True)
class Table:
    rows: list[Row]
    incomplete: int
    """Number of rows without a path or a patient, or with more cells than the header."""
    notes: list[str]


def read(file: Path) -> Table:
    """Returns the rows of the table, in whatever form it was written. Raises DataError, which quotes no cell of a row."""
    table = text_table.read(file, lambda names: set(COLUMNS) <= names, ",".join(COLUMNS))
    rows = [Row(line.cells["path"], line.cells["patient"]) for line in table.lines]
    usable = [row for row in rows if row.path and row.patient]
    return Table(usable, len(rows) - len(usable) + len(table.incomplete), table.notes)
