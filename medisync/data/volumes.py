"""One slice out of a DICOM or NIfTI file. Of everything else that such a file says, only what concerns the pixels is read.

Imported where such a file is met, because most workspaces hold none.
"""

import gzip
import io
import logging
import math
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from medisync.errors import ImageError

MAX_BYTES = 256 * 2**20
"""Of a volume once decompressed."""

MAX_SLICE_PIXELS = 17_000_000
GZIP = b"\x1f\x8b"
NIFTI_HEADER = 540
"""Bytes of the longer of the two headers."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""A DICOM transfer syntax that is unpacked before anything can be checked: a bomb."""

for library in ("pydicom", "nibabel"):
    logging.getLogger(library).setLevel(logging.CRITICAL)  # their warnings quote the file, a patient's name at worst


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
        # the message may quote the file, a patient's name at worst
        raise ImageError(f"the volume is damaged ({type(error).__name__})") from None


def _unzip(data: bytes) -> bytes:
    """A gzip stream of NIfTI, as far as its header says that there is something. Raises ImageError for anything else."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            head = stream.read(NIFTI_HEADER)
            if not _is_nifti(head):
                raise ImageError("a compressed file that holds no NIfTI volume")
            size = _volume_bytes(head)
            if size > MAX_BYTES:
                raise ImageError(f"{size >> 20} MB once decompressed, more than the limit of {MAX_BYTES >> 20} MB")
            return head + stream.read(size - len(head))
    except (OSError, EOFError, zlib.error):
        raise ImageError("a compressed file that holds no whole NIfTI volume") from None


def _volume_bytes(head: bytes) -> int:
    """What a NIfTI file has according to its header."""
    header = _nifti_kind(head).header_class.from_fileobj(io.BytesIO(head), check=False)
    return int(header.get_data_offset()) + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize


def _nifti_kind(data: bytes) -> Any:
    return nibabel.Nifti1Image if data[344:348] == b"n+1\x00" else nibabel.Nifti2Image


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
    if DEFLATED in data:
        raise ImageError("its transfer syntax, Deflated Explicit VR Little Endian, is not read here; export it plain")
    file = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in file:
        raise ImageError("the DICOM file holds no picture")
    rows, columns, count = int(file.Rows), int(file.Columns), int(file.get("NumberOfFrames", 1) or 1)
    if rows * columns > MAX_SLICE_PIXELS:
        raise ImageError(
            f"{columns} x {rows} pixels, more than the limit of {MAX_SLICE_PIXELS // 10**6} million pixels"
        )
    index = _choose(number, count)
    _require_decoder(file)
    values = pixel_array(file, index=index)
    notes = (*_which(index, count, "frame"), *_dicom_notes(file))
    if values.ndim == 3:
        return Slice(_to_bytes(values, 0, float(values.max())), count, "DICOM", notes)
    return Slice(_to_light_on_dark(_windowed(apply_rescale(values, file), file), file), count, "DICOM", notes)


def _require_decoder(file: pydicom.FileDataset) -> None:
    syntax = file.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ImageError(
            f"there is no decoder here for its transfer syntax, {syntax.name[:64]}; export it uncompressed"
        )


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
    """An axial slice as a radiologist sees it: front up, the patient's right on the left. The rest stays unread."""
    if data[:2] == GZIP:
        data = _unzip(data)
    image = _nifti_kind(data).from_bytes(data)
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ImageError(f"the NIfTI file has the shape {' x '.join(map(str, shape))}, expected a volume of slices")
    axes, signs = _orientation(image.affine)
    across = axes.index(2)
    index = _choose(number, shape[across])
    stored = index if signs[across] > 0 else shape[across] - 1 - index
    if math.prod(shape[:3]) // shape[across] > MAX_SLICE_PIXELS:
        raise ImageError(f"a slice of more than the limit of {MAX_SLICE_PIXELS // 10**6} million pixels")
    place = [slice(None) if axis != across else stored for axis in range(3)]
    values = _upright(np.asarray(image.dataobj[(*place, *(0,) * (len(shape) - 3))]), across, axes, signs)
    if values.dtype.kind not in "biuf":
        raise ImageError(f"its values are of the kind {values.dtype}, expected grey levels")
    extra = ("first of several volumes used",) if math.prod(shape[3:]) > 1 else ()
    return Slice(values, shape[across], "NIfTI", (*_which(index, shape[across], "slice"), *extra))


def _orientation(affine: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """For each stored axis which one it is of (to the right, to the front, to the top), and 1 or -1 for which way."""
    found = nibabel.io_orientation(affine)  # type: ignore[no-untyped-call]
    if not np.isfinite(found).all():
        return [0, 1, 2], [1, 1, 1]
    return found[:, 0].astype(int).tolist(), found[:, 1].astype(int).tolist()


def _upright(plane: NDArray[Any], across: int, axes: list[int], signs: list[int]) -> NDArray[Any]:
    """A stored plane with its rows from front to back and its columns from the patient's right to the left."""
    first, second = (axis for axis in range(3) if axis != across)
    plane = plane[
        :: -signs[first], :: -signs[second]
    ]  # from the left and the back to the right and the front, reversed
    return np.ascontiguousarray(plane.T if axes[first] == 0 else plane)
