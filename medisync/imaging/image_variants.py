"""Tells variants of image formats that are not supported from damaged files."""

import io
import re
from collections.abc import Mapping

from PIL import TiffImagePlugin

from medisync.imaging.formats import JPEG_START
from medisync.imaging.tiff_pages import TIFF_STARTS

ADVICE = "export the image as 8-bit PNG, or as DICOM"

_DIFFERENTIAL, _ARITHMETIC = "hierarchical JPEG", "JPEG with arithmetic coding"
_FRAMES: Mapping[int, str] = {
    0xC0: "",
    0xC1: "",
    0xC2: "",
    0xC3: "lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), _DIFFERENTIAL),
    **dict.fromkeys((0xC9, 0xCA, 0xCB), _ARITHMETIC),
    0xF7: "JPEG-LS",
}
"""Markers that begin a JPEG's frame, with the name of the variant; empty for the usual ones (ITU-T T.81, table B.1)."""

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
    frame = _jpeg_frame(data)
    if frame is None:
        return None
    marker, bits, colours = frame
    if _FRAMES[marker]:
        return _FRAMES[marker]
    if bits != 8:
        return f"{bits}-bit JPEG" if bits in (12, 16) else None
    return None if colours in (1, 3, 4) else f"JPEG with {colours} channels"


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Returns marker, bits per value and number of channels of the frame; None if the file has none."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            return marker, data[place + 4], data[place + 9]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big") if marker != 0xFF else 1
    return None


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
