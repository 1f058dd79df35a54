"""Reads NIfTI and Analyze volumes, and of their headers only the geometry."""

import io
import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medisync.errors import ImageError
from medisync.imaging.compression import decompress, first_bytes
from medisync.imaging.formats import is_analyze_header, is_gzip, is_nifti, is_nifti1
from medisync.imaging.intensities import refuse_holes
from medisync.imaging.limits import MAX_PIXELS
from medisync.imaging.planes import Planes, choose_planes
from medisync.imaging.slices import Slice, Volume

logging.getLogger("nibabel").setLevel(logging.CRITICAL)  # its warnings quote the file, which may name a patient

HEADER_BYTES = 540
"""Size of the NIfTI-2 header, the longer of the two."""

FEW_VALUES = 8
"""Most different values of a slice that is taken for a segmentation."""

VOLUMES_TRIED = 16
"""Most volumes of a series that are looked at to find one with content."""


def open_nifti(files: Sequence[bytes]) -> Volume:
    """Opens a volume, in one file or as a pair of header and image in either order.

    Its slices are drawn as a radiologist sees them; `planes` says which. Raises ImageError for what cannot be read.
    """
    image = _load(files)
    shape = (*image.shape, 1)[:3] if len(image.shape) < 3 else image.shape[:3]
    if len(image.shape) < 2 or min(shape) < 1:
        raise ImageError(f"its shape is {' x '.join(map(str, image.shape))}, expected an image or a volume of slices")
    planes = choose_planes(shape, image.affine, (*image.header.get_zooms()[:3], 1.0)[:3])
    if math.prod(shape) // shape[planes.across] > MAX_PIXELS:
        raise ImageError(f"a slice has more than the limit of {MAX_PIXELS // 10**6} million pixels")
    volume, which = _first_with_content(image, planes)
    read = partial(_read_plane, image, planes, volume)
    notes = (*which, *_value_notes(image), *(planes.notes or _side_notes(image)))
    return Volume("NIfTI", shape[planes.across], read, notes=notes)


def _read_plane(image: Any, planes: Planes, volume: Sequence[int], index: int) -> Slice:
    """Reads one plane of one volume, and nothing of the others."""
    values = planes.upright(_stored_plane(image, planes, volume, index))
    if values.ndim == 3:
        return Slice(values, planes.spacing)
    refuse_holes(values)
    return Slice(values, planes.spacing, _segmentation_note(values))


def _segmentation_note(values: NDArray[Any]) -> tuple[str, ...]:
    """Warns of a file of labels, which often lies beside a scan under nearly its name."""
    some = np.unique(values.ravel()[:: max(1, values.size // 2**16)])
    count = np.count_nonzero(~np.isnan(some)) if some.dtype.kind == "f" else some.size
    return (f"only {count} different values: perhaps a segmentation, not a scan",) if 1 < count <= FEW_VALUES else ()


def _stored_plane(image: Any, planes: Planes, volume: Sequence[int], index: int) -> NDArray[Any]:
    """Returns [A, B] numbers or [A, B, 3] colours as they are stored."""
    position: list[Any] = [slice(None)] * 3
    if len(image.shape) == 2:
        plane = np.asarray(image.dataobj)[..., np.newaxis]
        position[planes.across] = 0
        return _as_numbers(plane[tuple(position)])
    position[planes.across] = planes.stored_index(index, image.shape[planes.across])
    return _as_numbers(np.asarray(image.dataobj[(*position, *volume)]))


def _as_numbers(plane: NDArray[Any]) -> NDArray[Any]:
    if plane.dtype.names:
        return np.stack([plane[name] for name in "RGB"], axis=-1)
    return np.abs(plane) if plane.dtype.kind == "c" else plane


def _first_with_content(image: Any, planes: Planes) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the place of the first volume of a series whose planes are not all blank, and a note."""
    more = image.shape[3:]
    count = math.prod(more)
    places = [tuple(map(int, np.unravel_index(k, more, "F"))) for k in range(min(count, VOLUMES_TRIED))]
    if count <= 1:
        return places[0] if more else (), ()
    for number, place in enumerate(places):
        if _has_content(image, planes, place):
            note = f"volume {number + 1} of {count} used; those before it are blank"
            return place, (note if number else "first of several volumes used",)
    return places[0], ("first of several volumes used",)


def _has_content(image: Any, planes: Planes, volume: Sequence[int]) -> bool:
    """Looks at three planes of a volume."""
    count = image.shape[planes.across]
    for index in sorted({count // 4, count // 2, 3 * count // 4}):
        plane = _stored_plane(image, planes, volume, index)
        if np.fmax.reduce(plane, axis=None) > np.fmin.reduce(plane, axis=None):
            return True
    return False


def _value_notes(image: Any) -> tuple[str, ...]:
    kind = image.get_data_dtype()
    if kind.names and "A" in kind.names:
        return ("transparency ignored",)
    return ("complex values: their magnitude is drawn",) if kind.kind == "c" else ()


def _side_notes(image: Any) -> tuple[str, ...]:
    """Says so where right and left are not known: Analyze has no field for it, and in NIfTI it may be empty."""
    header = image.header
    if isinstance(header, nibabel.Nifti1Header) and (header["sform_code"] > 0 or header["qform_code"] > 0):
        return ()
    return ("the file does not say which side is the patient's right: perhaps mirrored",)


def _load(files: Sequence[bytes]) -> Any:
    headers = [index for index, data in enumerate(files) if is_analyze_header(_head(data))]
    if len(files) == 2 and len(headers) == 1:
        return _load_pair(files[headers[0]], files[1 - headers[0]])
    if len(files) != 1:
        raise ImageError(f"{len(files)} files, expected one volume or the two files of a pair, .hdr and .img")
    if headers:
        raise ImageError("this is the header of a pair, without pixels; add the .img file of the same name")
    return _load_single(files[0])


def _head(data: bytes) -> bytes:
    return first_bytes(data, HEADER_BYTES) if is_gzip(data) else data[:HEADER_BYTES]


def _load_single(data: bytes) -> Any:
    head = _head(data)
    if not is_nifti(head):
        raise ImageError("it holds no NIfTI volume")
    kind = nibabel.Nifti1Image if is_nifti1(head) else nibabel.Nifti2Image
    return kind.from_bytes(_complete(data, _header(kind, head)))


def _load_pair(header_file: bytes, image_file: bytes) -> Any:
    head = decompress(header_file) if is_gzip(header_file) else header_file
    if head[4:8] == b"ni2\x00":
        kind: Any = nibabel.Nifti2Pair
    else:
        kind = nibabel.Nifti1Pair if head[344:348] == b"ni1\x00" else nibabel.AnalyzeImage
    pixels = _complete(image_file, _header(kind, head))
    holders = {"header": nibabel.FileHolder(fileobj=io.BytesIO(head))}
    return kind.from_file_map({**holders, "image": nibabel.FileHolder(fileobj=io.BytesIO(pixels))})


def _header(kind: Any, head: bytes) -> Any:
    return kind.header_class.from_fileobj(io.BytesIO(head), check=False)


def _complete(data: bytes, header: Any) -> bytes:
    """Returns the file that holds the pixels, decompressed up to the size that the header announces.

    Raises ImageError if it is shorter than that.
    """
    size = int(header.get_data_offset()) + math.prod(map(int, header.get_data_shape())) * _value_bytes(header)
    if is_gzip(data):
        return decompress(data, size)
    if len(data) < size:
        raise ImageError(f"the file is incomplete: its header announces {size} bytes, there are {len(data)}")
    return data


def _value_bytes(header: Any) -> int:
    """Returns the size of a value. Raises ImageError if its type is not supported or its scaling is not a number."""
    try:
        size = int(header.get_data_dtype().itemsize)
    except nibabel.spatialimages.HeaderDataError:
        size = 0
    if not size:
        raise ImageError(f"its type of numbers (code {int(header['datatype'])}) is not supported; export it as float32")
    try:
        header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError:
        raise ImageError("its intensity scaling (scl_slope, scl_inter) is not finite; export it again") from None
    return size
