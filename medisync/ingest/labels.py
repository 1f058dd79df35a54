"""Reads the table of labels and finds the series that each line names. What is unknown, or contradicts itself, is set aside.

A label is used only if it says one thing: no line is guessed, completed or preferred to another.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from medisync.config import normalise_folder
from medisync.data import text_table
from medisync.data.text_table import Line
from medisync.schemas import ExternalLabel

IDENTIFIERS = ("study", "series", "accession")
"""Columns that say what a line is about: Study Instance UID, Series Instance UID, accession number or what stands for it."""

EXPECTED = "label and study, series or accession (and, if known, patient, first, last)"
ALLOWED: tuple[ExternalLabel, ...] = get_args(ExternalLabel)

SeriesKey = tuple[str, str]
"""Study and series of an image."""


@dataclass(frozen=True)
class Slices:
    """Slices that show the lesion, by their numbers in the viewer of the PACS (Instance Number), both included."""

    first: int
    last: int

    def __contains__(self, number: float) -> bool:
        return self.first <= number <= self.last


@dataclass(frozen=True)
class Row:
    """A line of the table. Its identifiers are compared and never shown."""

    line: int
    identifiers: Mapping[str, str] = field(repr=False)
    """By column."""
    label: ExternalLabel | None = None
    patient: str = field(default="", repr=False)
    slices: Slices | None = None
    problem: str = ""
    """Why the line cannot be used, whatever it names; empty for a line with a label."""

    def names(self, series: "SeriesFound") -> bool:
        return all(series.identifiers[column] == value for column, value in self.identifiers.items())


@dataclass(frozen=True)
class Problem:
    """A line that is not used, or not for all that it names, and why; nothing of the line is quoted."""

    line: int
    reason: str


@dataclass(frozen=True)
class Table:
    rows: Sequence[Row]
    notes: Sequence[str]


@dataclass(frozen=True)
class SeriesFound:
    """A series of the export; `selected` says whether any of its images is of a sequence in the rules."""

    key: SeriesKey = field(repr=False)
    accession: str = field(repr=False)
    patient: str = field(repr=False)
    """Its PatientID; empty if it has none."""
    selected: bool

    @property
    def identifiers(self) -> Mapping[str, str]:
        return {"study": self.key[0], "series": self.key[1], "accession": self.accession}


@dataclass(frozen=True)
class SeriesLabel:
    """What the table says of a series."""

    label: ExternalLabel
    patient: str = field(repr=False)
    """The patient of the study in the table; empty if no line says."""
    slices: tuple[Slices, ...]
    """Slices that show the lesion; empty if the table does not say."""
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Assignment:
    labels: Mapping[SeriesKey, SeriesLabel]
    quarantined: Set[SeriesKey]
    """Series that lines name which contradict each other, or cannot be used."""
    problems: Sequence[Problem]


def read(file: Path) -> Table:
    """Returns the lines of the table. Raises DataError if the file cannot be read as a table with these columns."""
    table = text_table.read(file, _is_header, EXPECTED)
    broken = [Row(number, {}, problem="has fewer or more cells than the first line") for number in table.incomplete]
    return Table([*map(_row, table.lines), *broken], table.notes)


def _is_header(names: Set[str]) -> bool:
    return "label" in names and not names.isdisjoint(IDENTIFIERS)


def _row(line: Line) -> Row:
    identifiers = {column: line.cells[column] for column in IDENTIFIERS if line.cells.get(column)}
    label = next((each for each in ALLOWED if each == normalise_folder(line.cells["label"])), None)
    first, last = (line.cells.get(column, "") for column in ("first", "last"))
    if problem := _why_invalid(identifiers, label, first, last):
        return Row(line.number, identifiers, problem=problem)
    slices = Slices(int(first), int(last)) if first else None
    return Row(line.number, identifiers, label, line.cells.get("patient", ""), slices)


def _why_invalid(identifiers: Mapping[str, str], label: ExternalLabel | None, first: str, last: str) -> str:
    if not identifiers:
        return "names no study, series or accession number"
    if label is None:
        return f"its label is none of {', '.join(ALLOWED)}"
    if not first and not last:
        return ""
    if not all(re.fullmatch(r"[0-9]{1,6}", limit) for limit in (first, last)):
        return "its first and last slice are not two whole numbers"
    if int(first) > int(last):
        return "its first slice comes after its last"
    return "gives slices with a lesion, and the label notumor" if label == "notumor" else ""


def assign(table: Table, found: Sequence[SeriesFound]) -> Assignment:
    """Finds the series that each line names.

    What a line names that cannot be used is quarantined. A study whose lines give it two labels or two patients is
    quarantined whole, whatever the lines were about; so is a study with images of several patients, which only a mistake
    in the PACS explains.
    """
    index = _index(found)
    named = {row.line: _named(row, index) for row in table.rows}
    problems = {row.line: _why_unusable(row, named[row.line]) for row in table.rows}
    quarantined = {each.key for row in table.rows if problems[row.line] for each in named[row.line]}
    rows: dict[SeriesKey, list[Row]] = defaultdict(list)
    for row in table.rows:
        for key in dict.fromkeys(each.key for each in named[row.line]):
            rows[key].append(row)
    for keys, reason in _contradictions(found, rows):
        quarantined |= keys
        problems |= {row.line: problems[row.line] or reason for key in keys for row in rows[key]}
    for row in (row for key in quarantined for row in rows[key]):
        problems[row.line] = problems[row.line] or "names what another line makes doubtful"
    patients = {key[0]: row.patient for key, of_key in rows.items() for row in of_key if row.patient}
    labels = {
        key: _series_label(of_key, patients.get(key[0], "")) for key, of_key in rows.items() if key not in quarantined
    }
    return Assignment(
        labels, quarantined, [Problem(line, problems[line]) for line in sorted(problems) if problems[line]]
    )


Index = Mapping[tuple[str, str], Sequence[SeriesFound]]
"""Series by column and identifier."""


def _named(row: Row, index: Index) -> list[SeriesFound]:
    """Returns the series that have all identifiers of the line."""
    column = next(iter(row.identifiers.items()), ("", ""))
    return [series for series in index.get(column, ()) if row.names(series)]


def _index(found: Sequence[SeriesFound]) -> Index:
    index: dict[tuple[str, str], list[SeriesFound]] = defaultdict(list)
    for series in found:
        for column, value in series.identifiers.items():
            index[column, value].append(series)
    return index


def _why_unusable(row: Row, series: Sequence[SeriesFound]) -> str:
    if row.problem:
        return row.problem
    if not series:
        return "names nothing that is in the folder"
    if len({each.patient for each in series}) > 1:
        return "names examinations of several patients"
    selected = {each.key for each in series if each.selected}
    if not selected:
        return "names no series of a sequence in the rules"
    if row.slices and len(selected) > 1:
        return f"gives slices, but names {len(selected)} usable series, which are numbered each on its own; name one series"
    return ""


def _contradictions(
    found: Sequence[SeriesFound], named: Mapping[SeriesKey, Sequence[Row]]
) -> Iterator[tuple[set[SeriesKey], str]]:
    """Yields the series of each study that cannot be labelled, with the reason."""
    studies: dict[str, list[SeriesFound]] = defaultdict(list)
    for series in found:
        studies[series.key[0]].append(series)
    for study in studies.values():
        keys = {series.key for series in study}
        rows = [row for key in keys for row in named.get(key, ()) if not row.problem]
        if len({series.patient for series in study}) > 1 and rows:
            yield keys, "its study has images of several patients"
        elif len({row.label for row in rows}) > 1:
            yield keys, "its study is given two labels"
        elif len({row.patient for row in rows if row.patient}) > 1:
            yield keys, "its study is given two patients"


def _series_label(rows: Sequence[Row], patient: str) -> SeriesLabel:
    (label,) = {row.label for row in rows if row.label}
    return SeriesLabel(
        label,
        patient,
        tuple(row.slices for row in rows if row.slices),
        tuple(row.line for row in rows),
    )
