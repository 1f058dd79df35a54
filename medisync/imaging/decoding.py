"""The first step of preprocessing: the bytes of a file to grey pixels, or one sentence that says why not.

Files come from hospitals and from strangers. What can be refused from the header is refused from the header, and
only the pixels and their geometry are used. Whatever the format, a slice goes through the same steps: parts without
data become black, intensities are scaled to 8 bit, and pixels are made square.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medisync.errors import ImageError
from medisync.imaging.compression import decompress, first_bytes
from medisync.imaging.formats import GZIP_START, HEAD_BYTES, is_gzip, is_nifti, is_volume
from medisync.imaging.images import damage_explained, open_image
from medisync.imaging.intensities import Pixels, percentiles, reduce_to_bytes, without_fill
from medisync.imaging.limits import (
    MAX_ASPECT,
    MAX_BYTES,
    MAX_PIXEL_ASPECT,
    MAX_PIXELS,
    MIN_CONTRAST,
    check_geometry,
    check_pixels,
)
from medisync.imaging.slices import BlankError, Slice, Volume

SQUARE = 1.01
"""Largest ratio of the sides of a pixel that counts as square."""

ALIKE, SMALLEST_HEAD = 0.5, 0.05
"""What tells a slice through a head from noise: correlation of neighbouring blocks, and the fraction of bright ones."""

SLICES_TRIED = 64
"""Most slices that are decoded to find one with content."""


@dataclass(frozen=True)
class Decoded:
    """A grey image with what a person should know about its file.

    `pixels` are uint8 [H, W], upright and square; `width` and `height` are W and H.
    """

    pixels: Pixels
    width: int
    height: int
    mode: str
    colourfulness: float
    """Mean difference between colour channels, in [0, 1]; an MRI slice is near 0."""
    contrast: float
    """Grey levels between the darkest and the brightest percent of the pixels."""
    notes: tuple[str, ...]
    slices: int = 1
    """Number of slices in the file, of which this is one."""
    number: int = 1
    """Which of them it is, from 1."""


def file_bytes(path: Path) -> bytes:
    """Reads a whole file. Raises ImageError if it cannot be read, or is larger than any scan."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"the file has {size >> 20} MB, more than the limit of {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class Scan:
    """An image, or a volume whose slices are decoded when they are asked for."""

    count: int
    """Number of slices; 1 for an image."""
    decode_slice: Callable[[int], Decoded]
    """Decodes the slice with an index from 0. Raises ImageError with one sentence."""

    def decode(self, number: int | None = None) -> Decoded:
        """Decodes slice `number`, from 1; by default the middle one, or the nearest to it that shows a head.

        Raises ImageError if there is no such slice, BlankError if all are blank.
        """
        if number is not None and not 1 <= number <= self.count:
            raise ImageError(f"slice {number} was asked for, the file has {self.count}")
        return self._decode_middle() if number is None else self.decode_slice(number - 1)

    def _decode_middle(self) -> Decoded:
        if self.count == 1:
            return self.decode_slice(0)
        visible: Decoded | None = None
        tried = _outwards(self.count)
        for index in tried:
            try:
                decoded = self.decode_slice(index)
            except BlankError:
                continue
            if shows_head(decoded.pixels):
                visible = decoded
                break
            visible = visible or decoded
        if visible is None:
            raise BlankError(f"the volume has no content: nothing is visible on any of {len(tried)} slices")
        return visible if visible.number == self.count // 2 + 1 else _as_substitute(visible)


def _outwards(count: int) -> list[int]:
    """Returns indices from the middle to both ends, evenly spaced where there are many."""
    middle, step = count // 2, -(-count // SLICES_TRIED)
    return sorted(range(middle % step, count, step), key=lambda index: (abs(index - middle), index < middle))


def _as_substitute(decoded: Decoded) -> Decoded:
    return replace(decoded, notes=(f"{decoded.notes[0]}; the middle one is blank", *decoded.notes[1:]))


def shows_head(pixels: Pixels) -> bool:
    """Tells a slice through a head from noise and from a few specks: blocks of a 32nd of a side resemble their neighbours."""
    blocks = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    pairs = [(blocks[:, :-1].ravel(), blocks[:, 1:].ravel()), (blocks[:-1].ravel(), blocks[1:].ravel())]
    if min(part.std() for pair in pairs for part in pair) == 0:
        return False
    alike = min(float(np.corrcoef(one, other)[0, 1]) for one, other in pairs)
    return alike > ALIKE and float((blocks > 0.2 * blocks.max()).mean()) > SMALLEST_HEAD


def open_scan(files: Sequence[bytes]) -> Scan:
    """Opens the files of one scan: usually one; all of them for a DICOM series or a pair of header and image, in any order.

    Of metadata (EXIF, text chunks, DICOM fields) only what concerns the pixels is used. Raises ImageError, with one
    sentence, for anything but a complete scan of sensible size.
    """
    if not all(files):
        raise ImageError("the file is empty")
    with damage_explained(files[0]):
        contents = [_uncompressed(data) for data in files]
    with damage_explained(contents[0]):
        volume = _open(contents)
    return Scan(volume.count, partial(_decode_slice, volume, contents[0]))


def _open(files: Sequence[bytes]) -> Volume:
    if len(files) == 1 and not is_volume(files[0]):
        return open_image(files[0])
    from medisync.imaging import volumes  # here because nibabel and pydicom import slowly and most files are images

    return volumes.open_volume(files)


def _uncompressed(data: bytes) -> bytes:
    """Decompresses a file; not NIfTI, of which the reader takes as much as its header announces."""
    if not is_gzip(data) or is_nifti(head := first_bytes(data, HEAD_BYTES)):
        return data
    if head.startswith(GZIP_START):
        raise ImageError("the file is compressed twice; decompress it")
    return decompress(data)


def decode(data: bytes, number: int | None = None) -> Decoded:
    """Decodes an image file completely, to grey; of a volume one slice, as `Scan.decode` chooses it.

    Raises ImageError, with one sentence, for anything but a complete image of sensible size and content.
    """
    return open_scan([data]).decode(number)


def _decode_slice(volume: Volume, data: bytes, index: int) -> Decoded:
    with damage_explained(data):
        return _decode(volume, index)


def _decode(volume: Volume, index: int) -> Decoded:
    found = volume.read(index)
    check_pixels(*found.values.shape[1::-1])
    which = [f"{volume.part} {index + 1} of {volume.count} used"] if volume.count > 1 else []
    grey, colourfulness, grey_notes = _to_grey(found)
    pixels, square_notes = _with_square_pixels(grey, *found.spacing)
    height, width = pixels.shape
    check_geometry(width, height)
    notes = (*which, *volume.notes, *found.notes, *grey_notes, *square_notes)
    contrast = _require_contrast(pixels)
    return Decoded(pixels, width, height, volume.kind, colourfulness, contrast, notes, volume.count, index + 1)


def _to_grey(found: Slice) -> tuple[Pixels, float, list[str]]:
    """Returns the grey pixels, the colourfulness, and notes on what was done."""
    if found.values.ndim == 3:
        colour = Image.fromarray(found.values)
        colourfulness = _colourfulness(colour)
        return np.asarray(colour.convert("L")), colourfulness, ["colour dropped"] if colourfulness > 0.02 else []
    if found.values.dtype == np.uint8:
        return found.values, 0.0, []
    values = without_fill(found.values)
    missing = float(np.isnan(values).mean())
    notes = [f"no data in {max(missing, 0.001):.1%} of the pixels, drawn black"] if missing else []
    return reduce_to_bytes(values), 0.0, notes


def _colourfulness(image: Image.Image) -> float:
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    return float(np.mean(small.max(axis=2) - small.min(axis=2)) / 255)


def _with_square_pixels(pixels: Pixels, rows: float, columns: float) -> tuple[Pixels, list[str]]:
    """Resamples [H, W] whose rows and columns lie so far apart; returns it unchanged where they lie equally far.

    The coarser side is enlarged, so that nothing of the finer one is lost; where that would give more pixels than the
    limit, the finer one is reduced instead.
    """
    height, width = pixels.shape
    if not (np.isfinite([rows, columns]).all() and min(rows, columns) > 0):
        return pixels, ["its pixel spacing makes no sense and was not used"]
    ratio = max(rows, columns) / min(rows, columns)
    if ratio <= SQUARE:
        return pixels, []
    square = _square_size(height, width, rows / columns)
    if ratio > MAX_PIXEL_ASPECT or _aspect(*square) > MAX_ASPECT >= _aspect(height, width):
        return pixels, [f"its pixel spacing, {ratio:.3g} : 1, makes no sense and was not used"]
    note = f"pixels of {ratio:.3g} : 1 resampled to square"
    return np.asarray(Image.fromarray(pixels).resize(square, Image.Resampling.LANCZOS)), [note]


def _square_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """Returns width and height; `ratio` is the distance between rows over that between columns."""
    enlarged = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if enlarged[0] * enlarged[1] <= MAX_PIXELS:
        return enlarged
    return (max(1, round(width / ratio)), height) if ratio > 1 else (width, max(1, round(height * ratio)))


def _aspect(one: int, other: int) -> float:
    return max(one, other) / min(one, other)


def _require_contrast(pixels: Pixels) -> float:
    """Returns the contrast. Raises BlankError if there is hardly any."""
    low, high = percentiles(pixels, 1, 99)
    if high - low < MIN_CONTRAST and int(pixels.max()) - int(pixels.min()) < 4 * MIN_CONTRAST:
        raise BlankError("the image has no content: all its pixels are nearly the same")
    return high - low
