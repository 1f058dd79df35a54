"""The first step of preprocessing: the bytes of a file to grey pixels, or one sentence that says why not.

Files come from hospitals and from strangers. What can be refused from the header is refused from the header, and
only the pixels and the orientation of a file are used.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from medisync.data.formats import IMAGE_STARTS, IMAGES, JPEG_END, JPEG_START, PNG_START, VOLUMES, is_volume
from medisync.data.intensities import Pixels, percentiles, reduce_to_bytes
from medisync.data.limits import MAX_ASPECT, MAX_BYTES, MAX_PIXELS, MIN_CONTRAST, MIN_SIDE
from medisync.data.slices import Volume
from medisync.errors import ImageError

logging.getLogger("PIL").setLevel(logging.WARNING)  # its debug lines quote EXIF, which may name a patient

SIMPLEJPEG_COLOURS = {"L": "GRAY", "RGB": "RGB"}
"""simplejpeg's names of those colour modes of Pillow in which both decode to the same bits."""


@dataclass(frozen=True)
class Decoded:
    """A grey image with what a person should know about its file.

    `pixels` are uint8 [H, W], upright; `width` and `height` are those of the file.
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
        """Decodes slice `number`, from 1; by default the middle one. Raises ImageError if there is no such slice."""
        if number is not None and not 1 <= number <= self.count:
            raise ImageError(f"slice {number} was asked for, the file has {self.count}")
        return self.decode_slice(self.count // 2 if number is None else number - 1)


def open_scan(files: Sequence[bytes]) -> Scan:
    """Opens the files of one scan: usually one; all of them for a DICOM series, in any order.

    Of metadata (EXIF, text chunks, DICOM fields) only what concerns the pixels is used. Raises ImageError, with one
    sentence, for anything but a complete scan of sensible size.
    """
    first = files[0]
    if not first:
        raise ImageError("the file is empty")
    with _damage_explained():
        if not is_volume(first):
            return Scan(1, lambda index: _decode_image(first))
        from medisync.data import volumes  # here because nibabel and pydicom import slowly and most files are images

        volume = volumes.open_volume(files)
        return Scan(volume.count, lambda index: _decode_slice(volume, index))


def decode(data: bytes, number: int | None = None) -> Decoded:
    """Decodes an image file completely, to grey; of a DICOM or NIfTI volume one slice, as `Scan.decode` chooses it.

    Raises ImageError, with one sentence, for anything but a complete image of sensible size and content.
    """
    return open_scan([data]).decode(number)


def _decode_image(data: bytes) -> Decoded:
    with _damage_explained():
        _check_geometry(*_open(data).size)
        data, notes = _with_end_marker(data)
        return _decode_pixels(_open_intact(data), notes)


@contextmanager
def _damage_explained() -> Iterator[None]:
    """Turns whatever a decoder raises into an ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file; whatever matters is raised
            yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the image is too large for this machine's memory") from None
    except Exception as error:  # arbitrary bytes make Pillow raise anything  # noqa: BLE001
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ImageError(f"the image is damaged ({reason or type(error).__name__})") from None


def _open(data: bytes) -> Image.Image:
    """Reads the header only. Raises ImageError for other formats and for decompression bombs."""
    try:
        return Image.open(io.BytesIO(data), formats=IMAGES)
    except UnidentifiedImageError:
        if data.startswith(IMAGE_STARTS):
            raise ImageError("the image is damaged (its header cannot be read)") from None
        raise ImageError(f"not an image that can be read here (accepted: {', '.join((*IMAGES, *VOLUMES))})") from None
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
    """Adds the end marker that a JPEG lacks, with a note; whether all its pixels are there is checked later."""
    if data.startswith(JPEG_START) and JPEG_END not in data[-4096:]:
        return data + JPEG_END, ["the file lacks its end marker"]
    return data, []


def _open_intact(data: bytes) -> Image.Image:
    """Opens an image after checking it for damage that Pillow ignores.

    Pillow ignores wrong checksums in a PNG. Where a bit of a JPEG is flipped, libjpeg fills what it cannot read with
    grey and leaves a warning that Pillow does not pass on. A flip that leads to another valid image gives no warning:
    JPEG has no checksum. Raises ImageError if the file is damaged.
    """
    if data.startswith(PNG_START):
        _open(data).verify()
    image = _open(data)
    return _read_jpeg(image, data) if data.startswith(JPEG_START) else image


def _read_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """Decodes a JPEG with simplejpeg, which reports damage, and so spares Pillow from decoding it again.

    Returns `image` itself, for Pillow to decode, where only Pillow reads the kind of JPEG or where the two differ in
    their colours. Raises ImageError if the file is damaged.
    """
    colours = SIMPLEJPEG_COLOURS.get(image.mode)
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
    if getattr(image, "is_animated", False):  # counting the frames of a hostile file would take minutes
        file_notes = [*file_notes, "first of several frames used"]
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    pixels, colourfulness, conversion_notes = _to_grey(image)
    notes = (*file_notes, *conversion_notes)
    return Decoded(pixels, width, height, mode, colourfulness, _require_contrast(pixels), notes)


def _require_contrast(pixels: Pixels) -> float:
    """Returns the contrast. Raises ImageError if there is hardly any."""
    low, high = percentiles(pixels, 1, 99)
    if high - low < MIN_CONTRAST and int(pixels.max()) - int(pixels.min()) < 4 * MIN_CONTRAST:
        raise ImageError("the image has no content: all its pixels are nearly the same")
    return high - low


def _decode_slice(volume: Volume, index: int) -> Decoded:
    with _damage_explained():
        found = volume.read(index)
        height, width = found.values.shape[:2]
        _check_geometry(width, height)
        notes, colourfulness = [*volume.notes, *found.notes], 0.0
        if volume.count > 1:
            notes.insert(0, f"{volume.part} {index + 1} of {volume.count} used")
        if found.values.ndim == 3:
            pixels, colourfulness, colour_notes = _to_grey(Image.fromarray(found.values))
            notes += colour_notes
        else:
            pixels = found.values if found.values.dtype == np.uint8 else reduce_to_bytes(found.values)
        contrast = _require_contrast(pixels)
        return Decoded(
            pixels, width, height, volume.kind, colourfulness, contrast, tuple(notes), volume.count, index + 1
        )


def _to_grey(image: Image.Image) -> tuple[Pixels, float, list[str]]:
    """Returns the grey pixels, the colourfulness, and notes on what was converted."""
    if image.mode.startswith(("I", "F")):
        return reduce_to_bytes(np.asarray(image)), 0.0, [f"{image.mode} intensities scaled to 8 bit by percentiles"]
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
