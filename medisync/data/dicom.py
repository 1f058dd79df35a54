"""Reads DICOM files, and of their fields only those that concern the pixels."""

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from medisync.data.intensities import to_bytes
from medisync.data.limits import MAX_PIXELS
from medisync.data.slices import Slice, Volume
from medisync.errors import ImageError

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The DICOM transfer syntax that pydicom decompresses before anything can be checked, so that a bomb would go off."""


def open_dicom(files: Sequence[bytes]) -> Volume:
    """Opens a file; its frames are rescaled and windowed as it says, light on dark (DICOM PS3.3, C.11.2)."""
    (data,) = files
    if DEFLATED in data:
        raise ImageError(
            "its transfer syntax, Deflated Explicit VR Little Endian, is not supported; export the file uncompressed"
        )
    file = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in file:
        raise ImageError("the DICOM file holds no image")
    rows, columns, count = int(file.Rows), int(file.Columns), int(file.get("NumberOfFrames", 1) or 1)
    if rows * columns > MAX_PIXELS:
        raise ImageError(f"{columns} x {rows} pixels, more than the limit of {MAX_PIXELS // 10**6} million pixels")
    _require_decoder(file)
    return Volume("DICOM", count, partial(_read_frame, file), "frame", _dicom_notes(file))


def _read_frame(file: pydicom.FileDataset, index: int) -> Slice:
    values = pixel_array(file, index=index)
    if values.ndim == 3:
        return Slice(to_bytes(values.astype(np.float64), 0, float(values.max())))
    return Slice(_to_light_on_dark(_windowed(apply_rescale(values, file), file), file))


def _require_decoder(file: pydicom.FileDataset) -> None:
    syntax = file.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ImageError(
            f"no decoder is installed for its transfer syntax, {syntax.name[:64]}; export the file uncompressed"
        )


def _windowed(values: NDArray[Any], file: pydicom.Dataset) -> NDArray[Any]:
    centre, width = (_first_number(file.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return values
    return to_bytes(values.astype(np.float64), centre - width / 2, centre + width / 2)


def _first_number(value: Any) -> float | None:
    first = value[0] if isinstance(value, pydicom.multival.MultiValue) and len(value) else value
    try:
        number = float(first)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _to_light_on_dark(values: NDArray[Any], file: pydicom.Dataset) -> NDArray[Any]:
    if file.get("PhotometricInterpretation") != "MONOCHROME1":
        return values
    inverted: NDArray[Any] = values.max() + values.min() - values
    return inverted


def _dicom_notes(file: pydicom.Dataset) -> tuple[str, ...]:
    burned_in = str(file.get("BurnedInAnnotation", "")).upper()
    notes = []
    if burned_in == "YES":
        notes.append("the file says that text is burned into the image: look for names before sharing it")
    elif burned_in != "NO":
        notes.append("the file does not say whether text is burned into the image: look for names before sharing it")
    if (modality := str(file.get("Modality", ""))[:16]) not in ("", "MR"):
        notes.append(f"the file says its modality is {modality}, not MR")
    return tuple(notes)
