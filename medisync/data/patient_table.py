"""Reads patients.csv as people write it: by hand, from a program, or out of a spreadsheet in any country."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medisync.errors import DataError

COLUMNS = ("path", "patient")
DELIMITERS = ",;\t|"

SEPARATOR_LINE = re.compile(r'\s*"?sep=.?"?\s*?[\r\n]+', re.IGNORECASE)
"""First line with which Excel is told the delimiter."""


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
    """Returns the rows of a table with the columns `path` and `patient`, in any order and among others.

    Accepts UTF-8, UTF-16 and Windows-1252, commas, semicolons, tabs or bars between cells, any line ends, and column names
    in any case. Raises DataError, which quotes no cell of a row.
    """
    try:
        text, notes = _decoded(file.read_bytes())
        header, *rows = _cells(SEPARATOR_LINE.sub("", text, count=1) if SEPARATOR_LINE.match(text) else text) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: cannot be read ({_reason(error)}); expected UTF-8 text with the columns path,patient"
        ) from None
    names = [name.strip().casefold() for name in header]
    if not set(COLUMNS) <= set(names):
        raise DataError(f"{file}: expected the columns path,patient in its first line, found {_shown(header)}")
    path, patient = (names.index(column) for column in COLUMNS)
    complete = [Row(_clean(row[path]), _clean(row[patient])) for row in rows if _is_complete(row, len(names))]
    usable = [row for row in complete if row.path and row.patient]
    return Table(usable, len(rows) - len(usable), notes)


def _decoded(data: bytes) -> tuple[str, list[str]]:
    """Returns the text, and a note if its encoding had to be assumed."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16"), []
    if b"\0" in data[:2]:  # UTF-16 without its mark: the first character of the header is in ASCII
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252"), ["patients.csv is not UTF-8; it was read as Windows-1252"]


def _cells(text: str) -> list[list[str]]:
    """Returns the cells of every line that is not blank, by the delimiter with which the first line has both columns."""
    first = text.lstrip()
    headers = {delimiter: next(_lines(first, delimiter), []) for delimiter in DELIMITERS}
    fitting = (each for each, header in headers.items() if set(COLUMNS) <= {name.strip().casefold() for name in header})
    lines = _lines(first, next(fitting, DELIMITERS[0]), strict=True)
    return [row for row in lines if any(cell.strip() for cell in row)]


def _lines(text: str, delimiter: str, strict: bool = False) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict)


def _is_complete(row: list[str], columns: int) -> bool:
    """Refuses rows whose cells cannot be told apart, such as one with a comma in a file name that nobody quoted."""
    return len(row) >= columns and not any(cell.strip() for cell in row[columns:])


def _clean(cell: str) -> str:
    return unicodedata.normalize("NFC", cell.strip())


def _shown(header: list[str]) -> str:
    """Returns the column names, unless the first line looks like a row, which may name a patient."""
    if any(re.search(r"[\d/\\.]", cell) for cell in header):
        return "a first line without these names"
    return ",".join(header) or "an empty file"


def _reason(error: Exception) -> str:
    """Returns the reason without the bytes that a codec quotes."""
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} text"
    return str(getattr(error, "strerror", None) or error)
