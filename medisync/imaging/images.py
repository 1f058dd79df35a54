"""Reads image files with Pillow: their header first, then every pixel, without letting damage pass."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medisync.errors import ImageError
from medisync.imaging.foreign import foreign_format
from medisync.imaging.formats import IMAGES, JPEG_END, JPEG_START, PNG_START, VOLUMES, is_picture
from medisync.imaging.image_variants import unsupported_variant
from medisync.imaging.intensities import refuse_holes
from medisync.imaging.limits import MAX_PIXELS, check_geometry, check_pixels
from medisync.imaging.slices import Slice, Volume
from medisync.imaging.tiff_pages import slice_pages

logging.getLogger("PIL").setLevel(logging.WARNING)  # its debug lines quote EXIF, which may name a patient

SIMPLEJPEG_COLOURS = {"L": "GRAY", "RGB": "RGB"}
"""simplejpeg's names of those colour modes of Pillow in which both decode to the same bits."""

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""The TIFF tag, and its value for an inverted image (TIFF 6.0, section 8)."""


def open_image(data: bytes) -> Volume:
    """Opens an image from its header; the pages of a TIFF stack are slices.

    The kind is Pillow's name of the colour mode. Raises ImageError, with one sentence, if it is no image of sensible size;
    Pillow may raise anything for a damaged one, here and when a slice is read: see `damage_explained`.
    """
    image = _open(data)
    check_pixels(*image.size)
    pages, notes = slice_pages(image, data) if image.format == "TIFF" else ([0], ())
    if pages == [0]:
        check_geometry(*image.size)
        return Volume(image.mode, 1, lambda index: _read_whole(data), notes=notes)
    lock = Lock()  # a file of Pillow has one position
    return Volume(image.mode, len(pages), lambda index: _read_page(image, lock, pages[index]), "page", notes)


@contextmanager
def damage_explained(data: bytes) -> Iterator[None]:
    """Turns whatever a decoder raises into an ImageError: unsupported where that is the reason, else damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file; whatever matters is raised
            yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("the image is too large for this machine's memory") from None
    except Exception as error:  # arbitrary bytes make Pillow raise anything  # noqa: BLE001
        if variant := unsupported_variant(data, error):
            raise ImageError(variant) from None
        reason = (str(error).splitlines() or [""])[0][:80]
        raise ImageError(f"the image is damaged ({reason or type(error).__name__})") from None


def _open(data: bytes) -> Image.Image:
    """Reads the header only. Raises ImageError for other formats and for decompression bombs."""
    if not is_picture(data) or foreign_format(data):
        raise ImageError(_why_unidentified(data))
    try:
        return Image.open(io.BytesIO(data), formats=IMAGES)
    except UnidentifiedImageError as error:
        problem = unsupported_variant(data, error) or "the image is damaged (its header cannot be read)"
        raise ImageError(problem) from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than the limit of {MAX_PIXELS // 10**6} million pixels") from None


def _why_unidentified(data: bytes) -> str:
    if found := foreign_format(data):
        return f"not an image that can be read here, but {found}"
    return f"not an image that can be read here (accepted: {', '.join((*IMAGES, *VOLUMES))})"


def _read_page(image: Image.Image, lock: Lock, page: int) -> Slice:
    with lock:
        image.seek(page)
        check_geometry(*image.size)
        return _as_slice(image, [])


def _read_whole(data: bytes) -> Slice:
    data, notes = _with_end_marker(data)
    image = _open_intact(data)
    if image.format != "TIFF" and getattr(image, "is_animated", False):
        notes = [*notes, "first of several frames used"]  # counting them in a hostile file would take minutes
    return _as_slice(image, notes)


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


def _as_slice(image: Image.Image, file_notes: list[str]) -> Slice:
    """Decodes all pixels of an image, upright, to grey of any depth or to RGB."""
    inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        refuse_holes(values)
        notes = [*file_notes, f"{image.mode} intensities scaled to 8 bit by percentiles"]
        return Slice(_inverted(values) if inverted else values, notes=tuple(notes))
    if image.mode in ("L", "1"):
        return Slice(np.asarray(image.convert("L")), notes=tuple(file_notes))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return Slice(np.asarray(_on_black(image.convert("RGBA"))), notes=(*file_notes, "transparency placed on black"))
    return Slice(np.asarray(image.convert("RGB")), notes=tuple(file_notes))


def _inverted(values: NDArray[Any]) -> NDArray[Any]:
    """Makes dark light; Pillow does so for 8 bits only."""
    wide = values.astype(np.float64)
    inverted: NDArray[Any] = np.nanmax(wide) + np.nanmin(wide) - wide
    return inverted


def _on_black(image: Image.Image) -> Image.Image:
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return black
