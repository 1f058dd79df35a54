"""Reads tables as people write them: by hand, from a program, or out of a spreadsheet in any country."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from medisync.errors import DataError

DELIMITERS = ",;\t|"

SEPARATOR_LINE = re.compile(r'\s*"?sep=.?"?\s*?[\r\n]+', re.IGNORECASE)
"""First line with which Excel is told the delimiter."""

IsHeader = Callable[[Set[str]], bool]
"""Tells from the names of the columns, in lower case, whether a table has what its reader needs."""


@dataclass(frozen=True)
class Line:
    number: int
    """Number of the line in the file, from 1; of a row of several lines the last."""
    cells: Mapping[str, str]
    """The cells by the names of their columns, in lower case."""


@dataclass(frozen=True)
class TextTable:
    lines: list[Line]
    incomplete: list[int]
    """Numbers of the lines that have fewer or more cells than the header."""
    notes: list[str]


def read(file: Path, is_header: IsHeader, expected: str) -> TextTable:
    """Returns the lines of a table that are not blank; `expected` says which columns it must have.

    Accepts UTF-8, UTF-16 and Windows-1252, commas, semicolons, tabs or bars between cells, any line ends, and column names
    in any case. Raises DataError, which quotes no cell of a row.
    """
    try:
        text, notes = _decoded(file.read_bytes(), file.name)
        (_, header), *rows = _cells(text, is_header) or [(0, [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: cannot be read ({_reason(error)}); expected UTF-8 text with the columns {expected}"
        ) from None
    names = _names(header)
    if not is_header(set(names)):
        raise DataError(f"{file}: expected the columns {expected} in its first line, found {_shown(header)}")
    complete = [(number, row) for number, row in rows if _is_complete(row, len(names))]
    lines = [Line(number, _by_name(names, row)) for number, row in complete]
    return TextTable(lines, [number for number, row in rows if not _is_complete(row, len(names))], notes)


def _names(header: list[str]) -> list[str]:
    return [name.strip().casefold() for name in header]


def _by_name(names: list[str], row: list[str]) -> dict[str, str]:
    """Returns the cells by name; of two columns with one name the first counts."""
    cells: dict[str, str] = {}
    for name, cell in zip(names, row, strict=False):
        cells.setdefault(name, _clean(cell))
    return cells


def _decoded(data: bytes, name: str) -> tuple[str, list[str]]:
    """Returns the text, and a note if its encoding had to be assumed."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16"), []
    if b"\0" in data[:2]:  # UTF-16 without its mark: the first character of the header is in ASCII
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252"), [f"{name} is not UTF-8; it was read as Windows-1252"]


def _cells(text: str, is_header: IsHeader) -> list[tuple[int, list[str]]]:
    """Returns number and cells of every line that is not blank, by the delimiter with which the first is a header."""
    separator = SEPARATOR_LINE.match(text)
    above, text = (separator.group().count("\n"), text[separator.end() :]) if separator else (0, text)
    first = text.lstrip()
    headers = {delimiter: next(_lines(first, delimiter), (0, [])) for delimiter in DELIMITERS}
    fitting = (delimiter for delimiter, (_, header) in headers.items() if is_header(set(_names(header))))
    lines = _lines(text, next(fitting, DELIMITERS[0]), strict=True)
    return [(above + number, row) for number, row in lines if any(cell.strip() for cell in row)]


def _lines(text: str, delimiter: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict)
    return ((reader.line_num, row) for row in reader)


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
