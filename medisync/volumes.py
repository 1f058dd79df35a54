"""One slice out of a DICOM or NIfTI file. Of everything else that such a file says, only what concerns the pixels is read.

Imported where such a file is met, because most workspaces hold none.
"""

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from medisync.errors import ImageError

MAX_BYTES = 256 * 2**20
"""Of a volume once decompressed."""

MAX_SLICE_PIXELS = 40_000_000
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Slice:
    """One slice: grey [H, W] of any depth, or RGB uint8 [H, W, 3], upright, and what a person should know about it."""

    values: NDArray[Any]
    count: int
    """Slices in the file."""
    kind: str
    notes: tuple[str, ...]


def _is_nifti(data: bytes) -> bool:
    return data[344:348] == b"n+1\x00" or data[4:8] == b"n+2\x00"


def read_slice(data: bytes, number: int | None = None) -> Slice:
    """The slice or frame `number`, from 1; the middle one without. Raises ImageError with one sentence."""
    try:
        return _read_dicom(data, number) if data[128:132] == b"DICM" else _read_nifti(data, number)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the volume is too large for this machine's memory") from None
    except Exception as error:  # both libraries raise whatever arbitrary bytes lead them to  # noqa: BLE001
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ImageError(f"the volume is damaged ({reason})") from None


def _unzip(data: bytes, limit: int) -> bytes:
    """At most `limit` bytes of a gzip stream; nothing of a damaged one."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(limit)
    except (OSError, EOFError, zlib.error):
        return b""


def _choose(number: int | None, count: int) -> int:
    """The index, from 0."""
    if count < 1:
        raise ImageError("the volume has no slice")
    if number is not None and not 1 <= number <= count:
        raise ImageError(f"slice {number} was asked for, the file has {count}")
    return count // 2 if number is None else number - 1


def _which(index: int, count: int, thing: str) -> tuple[str, ...]:
    return (f"{thing} {index + 1} of {count} used",) if count > 1 else ()


def _read_dicom(data: bytes, number: int | None) -> Slice:
    """Rescaled, windowed as the file says (PS3.3, C.11.2), light on dark."""
    file = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in file:
        raise ImageError("the DICOM file holds no picture")
    rows, columns, count = int(file.Rows), int(file.Columns), int(file.get("NumberOfFrames", 1) or 1)
    if rows * columns > MAX_SLICE_PIXELS:
        raise ImageError(
            f"{columns} x {rows} pixels, more than the limit of {MAX_SLICE_PIXELS // 10**6} million pixels"
        )
    index = _choose(number, count)
    values = pixel_array(file, index=index)
    notes = (*_which(index, count, "frame"), *_dicom_notes(file))
    if values.ndim == 3:
        return Slice(_to_bytes(values, 0, float(values.max())), count, "DICOM", notes)
    return Slice(_to_light_on_dark(_windowed(apply_rescale(values, file), file), file), count, "DICOM", notes)


def _windowed(values: NDArray[Any], file: pydicom.Dataset) -> NDArray[Any]:
    centre, width = (_first_number(file.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return values
    return _to_bytes(values, centre - width / 2, centre + width / 2)


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


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _dicom_notes(file: pydicom.Dataset) -> tuple[str, ...]:
    burned_in = str(file.get("BurnedInAnnotation", "")).upper()
    notes = []
    if burned_in == "YES":
        notes.append("the file says that text is burned into the picture: look for names before sharing it")
    elif burned_in != "NO":
        notes.append("the file does not say whether text is burned into the picture: look for names before sharing it")
    if (modality := str(file.get("Modality", ""))[:16]) not in ("", "MR"):
        notes.append(f"the file says its modality is {modality}, not MR")
    return tuple(notes)


def _read_nifti(data: bytes, number: int | None) -> Slice:
    """An axial slice as a radiologist sees it: front up, the patient's right on the left."""
    if data[:2] == GZIP:
        data = _unzip(data, MAX_BYTES + 1)
    if not _is_nifti(data):
        raise ImageError("a compressed file that holds no NIfTI volume")
    if len(data) > MAX_BYTES:
        raise ImageError(f"more than the limit of {MAX_BYTES // 2**20} MB once decompressed")
    kind = nibabel.Nifti1Image if data[344:348] == b"n+1\x00" else nibabel.Nifti2Image
    image = nibabel.as_closest_canonical(kind.from_bytes(data))  # type: ignore[no-untyped-call]
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ImageError(f"the NIfTI file has the shape {' x '.join(map(str, shape))}, expected a volume of slices")
    index = _choose(number, shape[2])
    extra = ("first of several volumes used",) if int(np.prod(shape[3:])) > 1 else ()
    values = np.asarray(image.dataobj[(slice(None), slice(None), index, *(0,) * (len(shape) - 3))])
    upright = values.T[::-1, ::-1]  # canonical axes run to the right, the front and the top
    return Slice(np.ascontiguousarray(upright), shape[2], "NIfTI", (*_which(index, shape[2], "slice"), *extra))
