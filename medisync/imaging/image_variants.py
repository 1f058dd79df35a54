"""Tells variants of image formats that are not supported from damaged files."""

import io
import re

from PIL import TiffImagePlugin

from medisync.imaging.formats import JPEG_START, TIFF_STARTS
from medisync.imaging.jpeg_frames import read_frame

ADVICE = "export the image as 8-bit PNG, or as DICOM"

_UNSUPPORTED = re.compile("not available|not supported|unsupported|not implemented|cannot handle|unknown", re.I)
"""What Pillow says of variants that it does not read."""


def unsupported_variant(data: bytes, error: Exception) -> str | None:
    """Returns a sentence that names the variant, for a file that made a decoder raise `error`; None for a damaged file."""
    if data.startswith(JPEG_START):
        variant = _jpeg_variant(data)
    elif data.startswith(TIFF_STARTS):
        variant = _tiff_variant(data, error)
    else:
        variant = "this variant of the image format" if _UNSUPPORTED.search(str(error)) else None
    return variant and f"{variant} is not supported; {ADVICE}"


def _jpeg_variant(data: bytes) -> str | None:
    frame = read_frame(data)
    if frame is None:
        return None
    if frame.variant:
        return frame.variant
    if frame.bits != 8:
        return f"{frame.bits}-bit JPEG" if frame.bits in (12, 16) else None
    return None if frame.channels in (1, 3, 4) else f"JPEG with {frame.channels} channels"


def _tiff_variant(data: bytes, error: Exception) -> str | None:
    if _UNSUPPORTED.search(str(error)):
        return "this compression of TIFF"
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    except SyntaxError as problem:
        if _UNSUPPORTED.search(str(problem)):
            return "this pixel type of TIFF"
        # a number that is not among Pillow's compressions
        return "this compression of TIFF" if isinstance(problem.__cause__, KeyError) else None
    except Exception:  # the file is damaged, which the caller says  # noqa: BLE001
        return None
    return None
