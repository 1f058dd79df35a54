"""Opens DICOM files, of whose fields only those are used that concern the pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.utils import pixel_array

from medisync.errors import ImageError
from medisync.imaging.dicom_display import displayed
from medisync.imaging.dicom_fields import frame_fields, number
from medisync.imaging.dicom_file import parse
from medisync.imaging.dicom_geometry import spacing, upright
from medisync.imaging.dicom_header import ImageHeader, read_header
from medisync.imaging.dicom_mosaic import grid, is_mosaic, tile
from medisync.imaging.dicom_series import arrange
from medisync.imaging.slices import Slice, Volume


@dataclass(frozen=True)
class _Frame:
    """One image of a file, with the fields that hold for it."""

    header: ImageHeader
    index: int
    fields: Dataset
    unusable: tuple[str, ...]
    """Names of fields whose values cannot be parsed."""


def open_dicom(files: Sequence[bytes]) -> Volume:
    """Opens a file, or all files of a series, as slices that a radiologist sees: upright, light on dark, in spatial order.

    Raises ImageError, which quotes nothing of the file, and whatever pydicom raises for a damaged one.
    """
    headers, notes = _headers(files)
    load = lru_cache(maxsize=1)(lambda header: parse(header.data).fields)
    if is_mosaic(headers[0].fields):
        return _open_mosaic(headers, load, notes)
    frames = [frame for header in headers for frame in _frames(header)]
    order, order_notes = arrange([frame.fields for frame in frames])
    part = "slice" if len(files) > 1 else "frame"
    notes = (*_file_notes(headers[0].fields), *notes, *order_notes)
    return Volume("DICOM", len(order), lambda index: _read(frames[order[index]], load), part, notes)


Load = Callable[[ImageHeader], FileDataset]


def _headers(files: Sequence[bytes]) -> tuple[list[ImageHeader], tuple[str, ...]]:
    """Reads the headers of the files that can be read; raises the ImageError of the first if none can."""
    headers, problems = [], []
    for data in files:
        try:
            headers.append(read_header(data))
        except ImageError as error:
            problems.append(error)
    if not headers:
        raise problems[0]
    notes = (f"{len(problems)} of {len(files)} files left out, the first because {problems[0]}",) if problems else ()
    return headers, notes


def _frames(header: ImageHeader) -> list[_Frame]:
    first = _Frame(header, 0, *frame_fields(header.fields, 0))
    if "PerFrameFunctionalGroupsSequence" not in header.fields:
        return [first, *(_Frame(header, index, first.fields, first.unusable) for index in range(1, header.count))]
    return [first, *(_Frame(header, index, *frame_fields(header.fields, index)) for index in range(1, header.count))]


def _read(frame: _Frame, load: Load) -> Slice:
    values, notes = displayed(_stored(frame, load), frame.fields, frame.header.kind)
    return _placed(values, notes, frame)


def _placed(values: NDArray[Any], notes: tuple[str, ...], frame: _Frame) -> Slice:
    distances, spacing_notes = spacing(frame.fields)
    turned, distances, turn_notes = upright(values, distances, frame.fields)
    unusable = (f"its {' and '.join(frame.unusable)} cannot be read and was ignored",) if frame.unusable else ()
    return Slice(turned, distances, (*notes, *spacing_notes, *turn_notes, *unusable))


def _open_mosaic(headers: Sequence[ImageHeader], load: Load, notes: tuple[str, ...]) -> Volume:
    """Opens a mosaic as a volume of its tiles; of several, which are time points, the first."""
    first = min(headers, key=lambda header: number(header.fields, "InstanceNumber") or 0)
    (frame,) = _frames(first)[:1]
    count, side = grid(first.fields, _stored(frame, load))
    whole = lru_cache(maxsize=1)(lambda: displayed(_stored(frame, load), frame.fields, first.kind))
    if len(headers) > 1:
        notes = (*notes, f"first of {len(headers)} mosaics used")
    notes = (*_file_notes(first.fields), *notes, f"a Siemens mosaic, cut into its {count} slices")
    return Volume(
        "DICOM", count, lambda index: _placed(tile(whole()[0], side, index), whole()[1], frame), "tile", notes
    )


def _stored(frame: _Frame, load: Load) -> NDArray[Any]:
    """Returns the stored values of a frame, as numbers of the bits in which they are stored."""
    header = frame.header
    file = load(header)
    if header.kind not in file:
        raise ImageError("the DICOM file is damaged: it is cut off before its last pixels")
    try:
        values = pixel_array(file, index=frame.index, correct_unused_bits=False)  # done below: pydicom ignores HighBit
    except MemoryError:
        raise
    except Exception:  # pydicom and its decoders raise anything for damaged pixels  # noqa: BLE001
        raise ImageError(f"its pixels are damaged: they cannot be decoded as {header.syntax.name}") from None
    if values.ndim == 2 and number(frame.fields, "BitsAllocated") == 1:
        return values * np.uint8(255)
    return values if header.kind != "PixelData" else _in_stored_bits(values, file)


def _in_stored_bits(values: NDArray[Any], file: FileDataset) -> NDArray[Any]:
    """Removes what is stored above or below the bits of the pixels, such as an overlay, and extends their sign.

    Where pixels spill over and there is no overlay, the file gives the number of bits wrong; the pixels stay.
    """
    allocated, stored = values.dtype.itemsize * 8, int(file.BitsStored)
    above = allocated - 1 - int(number(file, "HighBit") or stored - 1)
    if values.ndim != 2 or not 0 < stored < allocated or not 0 <= above <= allocated - stored:
        return values
    limit = 1 << (allocated - above)
    spills = int(values.max()) >= limit or int(values.min()) < -limit // 2
    overlays = [(0x6000 + 2 * group, 0x0102) for group in range(16)]
    if spills and not any(file[bit].value for bit in overlays if bit in file):
        return values
    return (values << above) >> (allocated - stored)


def _file_notes(fields: Dataset) -> tuple[str, ...]:
    burned_in = str(fields.get("BurnedInAnnotation", "")).upper()
    notes = []
    if burned_in == "YES":
        notes.append("the file says that text is burned into the image: look for names before sharing it")
    elif burned_in != "NO":
        notes.append("the file does not say whether text is burned into the image: look for names before sharing it")
    if (modality := str(fields.get("Modality", ""))[:16]) not in ("", "MR"):
        notes.append(f"the file says its modality is {modality}, not MR")
    return tuple(notes)
