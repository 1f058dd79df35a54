"""Predictions as CSV, the same from `medisync predict` and from the dashboard: for programs, and safe in a spreadsheet."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

from medisync.errors import printable
from medisync.reporting.formatting import yes_no
from medisync.schemas import LABELS, Prediction

HEADER = ("path", "label", *LABELS, "out_of_distribution", "slice", "slices", "note", "verdict", "reasons")

FORMULA = re.compile(r"""[\s"']*[=+\-@\t\r\n＝＋－＠]""")
"""The beginning of a cell that a spreadsheet may take for a formula: https://owasp.org/www-community/attacks/CSV_Injection"""


def write(stream: TextIO, rows: Iterable[Sequence[str]]) -> None:
    """Writes the header and then each row as soon as it comes."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)


def row(path: str, found: Prediction | str, slice_number: int | None = None, slices: int | None = None) -> list[str]:
    """Returns the cells of one prediction, or of the reason why there is none, in the order of HEADER.

    Where the verdict is "no answer", the label is only what the network leaned to; runs before verdicts have none. Several
    reasons are separated by semicolons. Probabilities are fractions; slices count from 1, and an image is slice 1 of 1.
    `slice_number` and `slices` say where a prediction is missing; one that is there knows them.
    """
    if isinstance(found, str):
        place = ["" if number is None else str(number) for number in (slice_number, slices)]
        return [_text(path), "", *([""] * len(LABELS)), "", *place, _text(_plain_spaces(found)), "", ""]
    probabilities = [f"{found.probabilities[label]:.4f}" for label in LABELS]
    place = [yes_no(found.unlike_training), str(found.slice_number), str(found.slices)]
    judged = [found.verdict or "", "; ".join(found.reasons)]
    return [_text(path), found.label, *probabilities, *place, _text(_plain_spaces(_note(found))), *judged]


def _note(found: Prediction) -> str:
    out_of_distribution = ["out of distribution"] if found.unlike_training else []
    failed = [f"{check.name}: {check.detail}" for check in found.checks if not check.passed]
    return "; ".join([*out_of_distribution, *failed, *found.notes])


def _plain_spaces(text: str) -> str:
    return "".join(" " if unicodedata.category(character) == "Zs" else character for character in text)


def _text(text: str) -> str:
    """Returns text on one line that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if FORMULA.match(shown) else shown
