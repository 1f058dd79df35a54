"""Siemens mosaics: one DICOM image that holds the slices of a volume side by side."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from medisync.errors import ImageError
from medisync.imaging.dicom_fields import numbers
from medisync.imaging.limits import MIN_SIDE

MAX_SIDE = 24
"""Most tiles in a row; scanners make mosaics of at most a few hundred slices."""

MAX_BRIGHT = 0.03
"""Largest fraction of bright pixels along the borders of tiles: heads do not touch them."""


HEAD = 0.15
"""The head is brighter than this fraction of the 99th percentile."""


def is_mosaic(file: FileDataset) -> bool:
    return "MOSAIC" in list(file.get("ImageType") or [])


def grid(file: FileDataset, stored: NDArray[Any]) -> tuple[int, int]:
    """Returns the number of tiles, and of tiles in a row.

    The number is that of the scanner, else what the acquisition matrix or the dark borders tell; blank tiles at the end do
    not count. Raises ImageError if the tiles cannot be told.
    """
    count = _declared(file)
    side = math.ceil(math.sqrt(count)) if count else _side_by_matrix(file, stored) or _side_by_borders(stored)
    if not side or not _divides(side, stored):
        raise ImageError("a Siemens mosaic whose slices cannot be told apart; export them as single images")
    filled = [index for index in range(count or side**2) if np.ptp(tile(stored, side, index)) > 0]
    return max(filled, default=0) + 1, side


def tile(plane: NDArray[Any], side: int, index: int) -> NDArray[Any]:
    """Cuts out a tile; they run from left to right, then down."""
    height, width = plane.shape[0] // side, plane.shape[1] // side
    top, left = index // side * height, index % side * width
    return plane[top : top + height, left : left + width]


def _declared(file: FileDataset) -> int | None:
    """Reads NumberOfImagesInMosaic, from the private field of its own or from Siemens' CSA header."""
    try:
        value = file.private_block(0x0019, "SIEMENS MR HEADER")[0x0A].value
        count: int | None = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
    except (KeyError, TypeError, ValueError):
        count = _in_csa_header(file)
    return count if count and 1 < count <= MAX_SIDE**2 else None


def _in_csa_header(file: FileDataset) -> int | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental when they are imported
        from nibabel.nicom import csareader
    try:
        header = csareader.get_csa_header(file, "image")  # type: ignore[no-untyped-call]
        return csareader.get_n_mosaic(header) if header else None  # type: ignore[no-untyped-call]
    except Exception:  # whatever is wrong with it, the number is found elsewhere  # noqa: BLE001
        return None


def _sides(stored: NDArray[Any]) -> Iterator[int]:
    """Yields the numbers of tiles in a row that divide the image evenly, the largest first."""
    yield from (side for side in range(MAX_SIDE, 1, -1) if _divides(side, stored))


def _divides(side: int, stored: NDArray[Any]) -> bool:
    return not any(length % side or length // side < MIN_SIDE for length in stored.shape)


def _side_by_matrix(file: FileDataset, stored: NDArray[Any]) -> int | None:
    """Compares the longer side of the image with that of the acquisition matrix, two of whose four numbers are 0."""
    longest = max(numbers(file, "AcquisitionMatrix", 4) or [0])
    return next((side for side in _sides(stored) if side * longest == max(stored.shape)), None)


def _side_by_borders(stored: NDArray[Any]) -> int | None:
    """Returns the largest number of tiles in a row between which all is dark."""
    threshold = HEAD * float(np.percentile(stored, 99))
    return next((side for side in _sides(stored) if (_borders(stored, side) > threshold).mean() <= MAX_BRIGHT), None)


def _borders(stored: NDArray[Any], side: int) -> NDArray[Any]:
    """Returns the pixels on both sides of the lines between tiles."""
    lines = [
        np.concatenate([axis[length * k // side - 1 : length * k // side + 1].ravel() for k in range(1, side)])
        for axis, length in ((stored, stored.shape[0]), (stored.T, stored.shape[1]))
    ]
    return np.concatenate(lines)
