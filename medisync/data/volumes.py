"""Reads one slice of a DICOM or NIfTI file, and of its metadata only what concerns the pixels.

`decoding` imports this module when it meets such a file: nibabel and pydicom import slowly, and most workspaces
hold images only.
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

from medisync.data.formats import is_dicom, is_gzip, is_nifti, is_nifti1
from medisync.data.intensities import to_bytes
from medisync.data.limits import MAX_BYTES, MAX_PIXELS
from medisync.errors import ImageError

NIFTI_HEADER_BYTES = 540
"""Size of the NIfTI-2 header, the longer of the two."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The DICOM transfer syntax that pydicom decompresses before anything can be checked, so that a bomb would go off."""

for library in ("pydicom", "nibabel"):
    logging.getLogger(library).setLevel(logging.CRITICAL)  # their warnings quote the file, which may name a patient


@dataclass(frozen=True)
class Slice:
    """One upright slice, with what a person should know about it.

    `values` are grey [H, W] of any depth, or RGB uint8 [H, W, 3].
    """

    values: NDArray[Any]
    count: int
    """Number of slices in the file."""
    kind: str
    notes: tuple[str, ...]


def read_slice(data: bytes, number: int | None = None) -> Slice:
    """Returns slice or frame `number`, from 1; by default the middle one. Raises ImageError with one sentence."""
    try:
        return _read_dicom(data, number) if is_dicom(data) else _read_nifti(data, number)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the volume is too large for this machine's memory") from None
    except Exception as error:  # arbitrary bytes make both libraries raise anything  # noqa: BLE001
        # the message may quote the file, which may name a patient
        raise ImageError(f"the volume is damaged ({type(error).__name__})") from None


def _unzip(data: bytes) -> bytes:
    """Decompresses a NIfTI file, up to the size that its header gives. Raises ImageError for anything else."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            head = stream.read(NIFTI_HEADER_BYTES)
            if not is_nifti(head):
                raise ImageError("the compressed file holds no NIfTI volume")
            size = _volume_bytes(head)
            if size > MAX_BYTES:
                raise ImageError(
                    f"the volume has {size >> 20} MB once decompressed, more than the limit of {MAX_BYTES >> 20} MB"
                )
            return head + stream.read(size - len(head))
    except (OSError, EOFError, zlib.error):
        raise ImageError("the compressed file holds no complete NIfTI volume") from None


def _volume_bytes(head: bytes) -> int:
    """Returns the size of a NIfTI file according to its header."""
    header = _nifti_class(head).header_class.from_fileobj(io.BytesIO(head), check=False)
    return int(header.get_data_offset()) + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize


def _nifti_class(data: bytes) -> Any:
    return nibabel.Nifti1Image if is_nifti1(data) else nibabel.Nifti2Image


def _choose(number: int | None, count: int) -> int:
    """Returns the index from 0 of slice `number`, which counts from 1. Raises ImageError if there is no such slice."""
    if count < 1:
        raise ImageError("the volume has no slice")
    if number is not None and not 1 <= number <= count:
        raise ImageError(f"slice {number} was asked for, the file has {count}")
    return count // 2 if number is None else number - 1


def _slice_note(index: int, count: int, thing: str) -> tuple[str, ...]:
    return (f"{thing} {index + 1} of {count} used",) if count > 1 else ()


def _read_dicom(data: bytes, number: int | None) -> Slice:
    """Returns a frame rescaled and windowed as the file says, light on dark (DICOM PS3.3, C.11.2)."""
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
    index = _choose(number, count)
    _require_decoder(file)
    values = pixel_array(file, index=index)
    notes = (*_slice_note(index, count, "frame"), *_dicom_notes(file))
    if values.ndim == 3:
        return Slice(to_bytes(values.astype(np.float64), 0, float(values.max())), count, "DICOM", notes)
    return Slice(_to_light_on_dark(_windowed(apply_rescale(values, file), file), file), count, "DICOM", notes)


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


def _read_nifti(data: bytes, number: int | None) -> Slice:
    """Returns an axial slice as a radiologist sees it: front up, the patient's right on the left.

    The other slices are not read.
    """
    if is_gzip(data):
        data = _unzip(data)
    image = _nifti_class(data).from_bytes(data)
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ImageError(f"the NIfTI file has the shape {' x '.join(map(str, shape))}, expected a volume of slices")
    axes, signs = _orientation(image.affine)
    across = axes.index(2)
    index = _choose(number, shape[across])
    stored = index if signs[across] > 0 else shape[across] - 1 - index
    if math.prod(shape[:3]) // shape[across] > MAX_PIXELS:
        raise ImageError(f"a slice has more than the limit of {MAX_PIXELS // 10**6} million pixels")
    position = [slice(None) if axis != across else stored for axis in range(3)]
    values = _upright(np.asarray(image.dataobj[(*position, *(0,) * (len(shape) - 3))]), across, axes, signs)
    if values.dtype.kind not in "biuf":
        raise ImageError(f"its values have the type {values.dtype}, expected grey levels")
    extra = ("first of several volumes used",) if math.prod(shape[3:]) > 1 else ()
    return Slice(values, shape[across], "NIfTI", (*_slice_note(index, shape[across], "slice"), *extra))


def _orientation(affine: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Returns for each stored axis its direction (0 right, 1 front, 2 top), and 1 or -1 for its sign.

    Takes the axes as they are stored where the affine is not usable.
    """
    orientation = nibabel.io_orientation(affine)  # type: ignore[no-untyped-call]
    if not np.isfinite(orientation).all():
        return [0, 1, 2], [1, 1, 1]
    return orientation[:, 0].astype(int).tolist(), orientation[:, 1].astype(int).tolist()


def _upright(plane: NDArray[Any], across: int, axes: list[int], signs: list[int]) -> NDArray[Any]:
    """Turns a stored plane: rows from front to back, columns from the patient's right to the left."""
    first, second = (axis for axis in range(3) if axis != across)
    # an axis that runs to the right or to the front is reversed
    plane = plane[:: -signs[first], :: -signs[second]]
    return np.ascontiguousarray(plane.T if axes[first] == 0 else plane)
