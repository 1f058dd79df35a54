"""The first step of `images`: the bytes of any file -> grey pixels, or one sentence that says what is wrong with them.

Files come from hospitals and strangers. What is refused is refused from the header where it can be, and nothing of a
file but its pixels and its orientation goes anywhere.
"""

import io
import logging
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medisync.errors import ImageError

logging.getLogger("PIL").setLevel(logging.WARNING)  # its debug lines quote EXIF, a patient's name at worst

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""What counts as an image in a hospital's dataset."""


UPLOAD_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".nii", ".nii.gz")
"""What a prediction takes: also one slice of a volume."""

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
VOLUMES = ("DICOM", "NIfTI")
MAX_BYTES = 256 * 2**20
"""Of a file, and of a volume once decompressed."""

MAX_PIXELS = 17_000_000
"""A little over 4096 x 4096: what can be decoded in 300 MB of memory, whatever its mode."""

MIN_SIDE = 32
MAX_ASPECT = 4.0
MIN_CONTRAST = 8
"""Grey levels between the darkest and the brightest percent of an image that shows something."""

BRIGHTNESS_PERCENTILES = 0.5, 99.5
"""Black and white of a stretched image."""

ROWS_AT_ONCE = 256
"""Scaled to 8 bit: the intermediate numbers take eight times an image's memory."""

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB"}
"""Pillow's modes by simplejpeg's names, of which both give the same bits."""

STARTS = (JPEG_START, PNG_START, b"II*\x00", b"MM\x00*", b"GIF8", b"RIFF")
"""How files of the accepted formats begin."""


@dataclass(frozen=True)
class Decoded:
    """A grey image, uint8 [H, W], with what a person should know about the file it came from."""

    pixels: Pixels
    width: int
    height: int
    mode: str
    colourfulness: float
    """Mean difference between colour channels, in [0, 1]; an MRI slice is near 0."""
    contrast: float
    """Grey levels between the darkest and the brightest percent."""
    notes: tuple[str, ...]
    slices: int = 1
    """How many the file has; this is one of them."""


def file_bytes(path: Path) -> bytes:
    """Raises ImageError for a file that cannot be read, or is larger than any scan."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"the file has {size >> 20} MB, more than the limit of {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None


def decode(data: bytes, slice_number: int | None = None) -> Decoded:
    """Decodes an image file completely, to grey; of a DICOM or NIfTI volume one slice, the middle one unless it is named.

    Raises ImageError with one sentence for anything that is no complete image of sensible size and content. Metadata
    (EXIF, text chunks) is read for the orientation alone and goes nowhere.
    """
    if not data:
        raise ImageError("the file is empty")
    with warnings.catch_warnings(), _damage_explained():
        warnings.simplefilter("ignore")  # of metadata and sizes, in words of the file; what matters to us is raised
        if _begins_like_volume(data):
            return _decode_volume(data, slice_number)
        _check_geometry(*_open(data).size)
        data, notes = _with_end_marker(data)
        return _decode_pixels(_open_intact(data), notes)


def _begins_like_volume(data: bytes) -> bool:
    """DICOM, gzip (of NIfTI), NIfTI-1 or NIfTI-2."""
    return data[128:132] == b"DICM" or data[:2] == b"\x1f\x8b" or data[344:348] == b"n+1\x00" or data[4:8] == b"n+2\x00"


@contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the image is too large for this machine's memory") from None
    except Exception as error:  # Pillow raises whatever arbitrary bytes lead it to  # noqa: BLE001
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ImageError(f"the image is damaged ({reason or type(error).__name__})") from None


def _open(data: bytes) -> Image.Image:
    """Reads the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if data.startswith(STARTS):
            raise ImageError("the image is damaged (its header cannot be read)") from None
        raise ImageError(f"not an image that can be read here (accepted: {', '.join((*FORMATS, *VOLUMES))})") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than the limit of {MAX_PIXELS // 10**6} million pixels") from None


def _check_geometry(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 10**6} million pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT:g} times the other; not a scan")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small, at least {MIN_SIDE} x {MIN_SIDE} is needed")


def _with_end_marker(data: bytes) -> tuple[bytes, list[str]]:
    """A JPEG with the end marker that it lacks: whether its pixels are all there is another question."""
    if data.startswith(JPEG_START) and JPEG_END not in data[-4096:]:
        return data + JPEG_END, ["the file lacks its end marker"]
    return data, []


def _open_intact(data: bytes) -> Image.Image:
    """Raises ImageError for damage that Pillow decodes in silence: wrong checksums of a PNG, a JPEG's broken pixels.

    Where a bit of a JPEG is flipped, libjpeg goes on, fills with grey what it cannot read, and leaves a warning that
    Pillow does not pass on. A flip that leads to another valid picture gives no warning: a JPEG has no checksum.
    """
    if data.startswith(PNG_START):
        _open(data).verify()
    image = _open(data)
    return _read_jpeg(image, data) if data.startswith(JPEG_START) else image


def _read_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """The image with the pixels that show whether it is intact, which are those that Pillow would decode a second time.

    Of kinds that only Pillow reads, and of colours that the two hand out differently, the image as it is.
    """
    colours = JPEG_COLOURS.get(image.mode)
    try:
        pixels = simplejpeg.decode_jpeg(data, colours or "GRAY", strict=True)
    except ValueError as error:
        if _can_be_decoded(data):
            raise ImageError(f"the image is damaged ({str(error)[:80]})") from None
        return image
    if colours is None:
        return image
    decoded = Image.fromarray(pixels.squeeze())
    decoded.info = image.info
    return decoded


def _can_be_decoded(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg(data, "GRAY", strict=False)
    except ValueError:
        return False
    return True


def _decode_pixels(image: Image.Image, file_notes: list[str]) -> Decoded:
    mode, (width, height) = image.mode, image.size
    if getattr(image, "is_animated", False):  # counting the frames of a hostile file takes minutes
        file_notes = [*file_notes, "first of several frames used"]
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    pixels, colourfulness, conversion_notes = _to_grey(image)
    notes = (*file_notes, *conversion_notes)
    return Decoded(pixels, width, height, mode, colourfulness, _require_contrast(pixels), notes)


def _require_contrast(pixels: Pixels) -> float:
    """Raises ImageError where there is hardly any."""
    low, high = percentiles(pixels, 1, 99)
    if high - low < MIN_CONTRAST and int(pixels.max()) - int(pixels.min()) < 4 * MIN_CONTRAST:
        raise ImageError("the image has no content: all its pixels are nearly the same")
    return high - low


def _decode_volume(data: bytes, slice_number: int | None) -> Decoded:
    from medisync.data import volumes

    found = volumes.read_slice(data, slice_number)
    height, width = found.values.shape[:2]
    _check_geometry(width, height)
    notes, colourfulness = list(found.notes), 0.0
    if found.values.ndim == 3:
        pixels, colourfulness, colour_notes = _to_grey(Image.fromarray(found.values))
        notes += colour_notes
    else:
        pixels = found.values if found.values.dtype == np.uint8 else _scale_high_depth(found.values)
    contrast = _require_contrast(pixels)
    return Decoded(pixels, width, height, found.kind, colourfulness, contrast, tuple(notes), found.count)


def _to_grey(image: Image.Image) -> tuple[Pixels, float, list[str]]:
    if image.mode.startswith(("I", "F")):
        return _scale_high_depth(np.asarray(image)), 0.0, [f"{image.mode} intensities scaled to 8 bit by percentiles"]
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L")), 0.0, []
    notes = []
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = _on_black(image.convert("RGBA"))
        notes.append("transparency placed on black")
    colour = image.convert("RGB")
    colourfulness = _colourfulness(colour)
    if colourfulness > 0.02:
        notes.append("colour dropped")
    return np.asarray(colour.convert("L")), colourfulness, notes


def _on_black(image: Image.Image) -> Image.Image:
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return black


def _colourfulness(image: Image.Image) -> float:
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    return float(np.mean(small.max(axis=2) - small.min(axis=2)) / 255)


def _scale_high_depth(values: NDArray[np.generic]) -> Pixels:
    """16-bit and floating-point intensities to 8 bit, from the 0.5th to the 99.5th percentile."""
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ImageError("the image holds values that are not finite (NaN or infinity)")
    low, high = _range(numbers, *np.percentile(numbers, BRIGHTNESS_PERCENTILES))
    scaled = np.empty(numbers.shape, np.uint8)
    for first in range(0, len(numbers), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        scaled[rows] = _to_bytes(numbers[rows], low, high)
    return scaled


def stretch(pixels: Pixels) -> Pixels:
    """uint8 [H, W] both ways: the 0.5th and the 99.5th percentile become 0 and 255, what is beyond them is cut off."""
    low, high = _range(pixels, *percentiles(pixels, *BRIGHTNESS_PERCENTILES))
    return _to_bytes(np.arange(256, dtype=np.float64), low, high).take(pixels)


def percentiles(pixels: Pixels, *wanted: float) -> tuple[float, ...]:
    """What `numpy.percentile` gives, to the last bit, of uint8: from the histogram, without sorting, in a tenth of the time."""
    up_to = list(accumulate(Image.fromarray(pixels).histogram()))
    return tuple(_percentile(up_to, each / 100 * (pixels.size - 1)) for each in wanted)


def _percentile(up_to: Sequence[int], place: float) -> float:
    """The value at a place between two ranks, from the numbers of values up to each."""
    low, high = (bisect_right(up_to, rank) for rank in (math.floor(place), math.ceil(place)))
    share = place - math.floor(place)
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def _range(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Of values that hardly differ, all."""
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _to_bytes(values: NDArray[Any], low: float, high: float) -> Pixels:
    return np.clip(np.rint((values - low) * (255.0 / max(high - low, 1e-12))), 0, 255).astype(np.uint8)
