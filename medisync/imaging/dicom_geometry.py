"""How a DICOM image lies in the patient: its spacing, its orientation, its position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medisync.imaging.dicom_fields import SPACINGS, numbers

Vector = NDArray[np.float64]

MAX_SPACING_RATIO = 10.0
"""Beyond this ratio of its two numbers a spacing is a mistake."""

MAX_SKEW = 0.1
"""Largest cosine between the rows and the columns of a usable orientation, which are at right angles."""

LETTERS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""DICOM's axes: to the patient's left, to the back, to the head (PS3.3, C.7.6.2.1.1)."""


@dataclass(frozen=True)
class View:
    """How a kind of plane is drawn: where the screen's right and bottom are in the patient."""

    right: str
    down: str
    words: str


VIEWS = (
    View("P", "F", "the head up and the front on the left"),
    View("L", "F", "the head up and the patient's right on the left"),
    View("L", "P", "the front up and the patient's right on the left"),
)
"""Sagittal, coronal, axial: by the axis across the plane."""


def spacing(fields: Dataset) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Returns the distances between rows and between columns, (1, 1) where none is usable; and notes."""
    notes: list[str] = []
    for name in SPACINGS:
        if name not in fields:
            continue
        found = numbers(fields, name, 2)
        if found and min(found) > 0 and max(found) <= MAX_SPACING_RATIO * min(found):
            return (found[0], found[1]), tuple(notes)
        notes.append(f"its {name} makes no sense and was ignored")
    return (1.0, 1.0), tuple(notes)


def directions(fields: Dataset) -> tuple[Vector, Vector] | None:
    """Returns unit vectors along which columns and rows are counted, to the right and down; None if they are not known."""
    six = numbers(fields, "ImageOrientationPatient", 6)
    pair = np.array(six).reshape(2, 3) if six else _by_letters(fields.get("PatientOrientation"))
    if pair is None:
        return None
    lengths = np.linalg.norm(pair, axis=1)
    if lengths.min() < 0.5:
        return None
    across, down = pair / lengths[:, None]
    return None if abs(across @ down) > MAX_SKEW else (across, down)


def _by_letters(value: Any) -> Vector | None:
    """Reads PatientOrientation, such as L and P; of several letters the first is the main direction."""
    letters = [str(each)[:1] for each in value] if isinstance(value, Sequence) and len(value) == 2 else []
    return np.array([LETTERS[each] for each in letters], float) if letters and set(letters) <= set(LETTERS) else None


def normal(fields: Dataset) -> Vector | None:
    """Returns the unit vector across the plane, to the left, the back or the head, whichever is nearest."""
    pair = directions(fields)
    if pair is None:
        return None
    across = np.cross(*pair)
    return across * np.sign(across[np.argmax(np.abs(across))])


def upright(
    values: NDArray[Any], distances: tuple[float, float], fields: Dataset
) -> tuple[NDArray[Any], tuple[float, float], tuple[str, ...]]:
    """Turns an image as radiologists draw it; returns it with its spacing, and a note if it was turned.

    An oblique image is drawn as the nearest of the three planes; one without orientation stays as it is stored.
    """
    pair = directions(fields)
    if pair is None:
        known = "ImageOrientationPatient" in fields
        notes = ("its ImageOrientationPatient makes no sense and was ignored",) if known else ()
        return values, distances, notes
    view = VIEWS[int(np.argmax(np.abs(np.cross(*pair))))]
    right, down = (np.array(LETTERS[letter]) for letter in (view.right, view.down))
    cosines = np.array(pair) @ np.array([right, down]).T
    transposed = abs(cosines[0, 0]) + abs(cosines[1, 1]) < abs(cosines[0, 1]) + abs(cosines[1, 0])
    if transposed:
        values, distances, cosines = values.swapaxes(0, 1), distances[::-1], cosines[::-1]
    flips = cosines.diagonal() < 0
    turned = values[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    notes = (f"turned, as its orientation says, to {view.words}",) if transposed or flips.any() else ()
    return np.ascontiguousarray(turned), distances, notes
