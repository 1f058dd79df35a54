"""What the readers of DICOM and NIfTI give: slices, and volumes of them. No library that reads either is imported here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from medisync.errors import ImageError


class BlankError(ImageError):
    """A slice shows nothing; another slice of the same volume may."""


@dataclass(frozen=True)
class Slice:
    """One upright slice with what a person should know about how it was read.

    `values` are grey [H, W] of any depth, light on dark, NaN where the file holds no data; or RGB uint8 [H, W, 3].
    """

    values: NDArray[Any]
    spacing: tuple[float, float] = (1.0, 1.0)
    """Distance between rows and between columns, in millimetres or any other unit; only their ratio is used."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """Slices in spatial order; none is read before it is asked for."""

    kind: str
    """The format by its usual name, such as DICOM."""
    count: int
    read: Callable[[int], Slice]
    """Reads the slice with an index from 0. Raises ImageError with one sentence."""
    part: str = "slice"
    """What one of them is called: slice, frame or tile."""
    notes: tuple[str, ...] = ()
    """Notes that hold for every slice."""
