"""Reads NIfTI volumes, and of their headers only the geometry."""

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medisync.data.formats import is_gzip, is_nifti, is_nifti1
from medisync.data.limits import MAX_BYTES, MAX_PIXELS
from medisync.data.slices import Slice, Volume
from medisync.errors import ImageError

NIFTI_HEADER_BYTES = 540
"""Size of the NIfTI-2 header, the longer of the two."""


def open_nifti(files: Sequence[bytes]) -> Volume:
    """Opens a volume; its axial slices are drawn as a radiologist sees them: front up, the patient's right on the left."""
    (data,) = files
    if is_gzip(data):
        data = _unzip(data)
    image = _nifti_class(data).from_bytes(data)
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ImageError(f"the NIfTI file has the shape {' x '.join(map(str, shape))}, expected a volume of slices")
    axes, signs = _orientation(image.affine)
    across = axes.index(2)
    if math.prod(shape[:3]) // shape[across] > MAX_PIXELS:
        raise ImageError(f"a slice has more than the limit of {MAX_PIXELS // 10**6} million pixels")
    extra = ("first of several volumes used",) if math.prod(shape[3:]) > 1 else ()
    return Volume("NIfTI", shape[across], partial(_read_plane, image, axes, signs), notes=extra)


def _read_plane(image: Any, axes: list[int], signs: list[int], index: int) -> Slice:
    """Reads one axial slice, and nothing of the others."""
    across = axes.index(2)
    stored = index if signs[across] > 0 else image.shape[across] - 1 - index
    position = [slice(None) if axis != across else stored for axis in range(3)]
    values = _upright(np.asarray(image.dataobj[(*position, *(0,) * (len(image.shape) - 3))]), across, axes, signs)
    if values.dtype.kind not in "biuf":
        raise ImageError(f"its values have the type {values.dtype}, expected grey levels")
    return Slice(values)


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
