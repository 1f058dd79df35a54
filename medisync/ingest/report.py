"""What became of an export: counted by reason for the terminal, and file by file in a table that names nobody.

A path may hold a patient's name, so the table says where a file stands: `3/1/12` is the twelfth entry of the first of the third
folder, in the order of `LC_ALL=C ls -A`. A line of the table of labels has its number.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from medisync.imaging.file_tree import counted
from medisync.ingest.headers import Rejected
from medisync.ingest.labels import Problem
from medisync.ingest.selection import EXCLUDED

COLUMNS = ("what", "where", "reason", "detail")
SHOWN_LINES = 10
"""Lines of the table of labels that the terminal names one by one."""


@dataclass(frozen=True)
class Outcome:
    """What an ingest read, wrote and left."""

    files: int
    """Files below the folder of the export, of any kind."""
    used: int
    """Files of which a slice is in the dataset."""
    added: Mapping[str, int]
    """Slices written now, by label."""
    present: int
    """Slices that the dataset had already."""
    patients: int
    """Patients of the slices that were written now or were there already."""
    rejected: Mapping[PurePosixPath, Rejected]
    """Every other file, by its path in the folder of the export."""
    problems: Sequence[Problem]
    labelled_lines: int
    """Lines of the table of labels."""
    notes: Sequence[str]


def lines(outcome: Outcome) -> Iterator[str]:
    """Yields the outcome in sentences."""
    yield f"read {counted(outcome.files, 'file')}, took slices of {outcome.used:,}"
    labels = ", ".join(f"{label} {number:,}" for label, number in outcome.added.items())
    yield f"added {counted(sum(outcome.added.values()), 'slice')}{labels and f' ({labels})'}" + (
        f"; {outcome.present:,} were there already" if outcome.present else ""
    )
    yield f"these are of {counted(outcome.patients, 'patient')}"
    for (kind, detail), number in _counts(outcome.rejected):
        yield f"left out {counted(number, kind)}{detail and f' ({detail})'}"
    if outcome.problems:
        yield (
            f"labels: {len(outcome.problems):,} of {counted(outcome.labelled_lines, 'line')} cannot be used; what they name "
            "is in quarantine"
        )
    yield from (f"labels: line {each.line} {each.reason}" for each in outcome.problems[:SHOWN_LINES])
    if len(outcome.problems) > SHOWN_LINES:
        yield f"labels: {len(outcome.problems) - SHOWN_LINES:,} more lines are in the report"
    yield from outcome.notes


def _counts(rejected: Mapping[PurePosixPath, Rejected]) -> list[tuple[tuple[str, str], int]]:
    """Returns how many files were left out by kind, the most first; the rules' reasons count one by one."""
    kinds = Counter((each.kind, each.detail if each.kind == EXCLUDED else "") for each in rejected.values())
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))


def table(outcome: Outcome, root: Path) -> bytes:
    """Returns the report as CSV: every file that was left out, and every line of labels that was not used."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    place = _places(root)
    files = [(place(path), each) for path, each in outcome.rejected.items()]
    for where, each in sorted(files, key=lambda file: file[0]):
        writer.writerow(("file", "/".join(map(str, where)), each.kind, each.detail))
    writer.writerows(("labels", problem.line, problem.reason, "") for problem in outcome.problems)
    return text.getvalue().encode()


def _places(root: Path) -> Callable[[PurePosixPath], tuple[int, ...]]:
    """Returns what tells where a file stands: the number of each part of its path among its neighbours, from 1."""

    @cache
    def order(folder: PurePosixPath) -> Mapping[str, int]:
        with suppress(OSError):  # it is gone by now, and the reason of its files is known
            names = sorted((entry.name for entry in os.scandir(root / folder)), key=os.fsencode)
            return {name: number for number, name in enumerate(names, 1)}
        return {}

    def place(path: PurePosixPath) -> tuple[int, ...]:
        parents = list(reversed(path.parents))
        return tuple(order(parent).get(name, 0) for parent, name in zip(parents, path.parts, strict=True))

    return place
