"""Decoders of compressed DICOM pixels that pydicom does not bring: a plugin for it, and what to say where there is none.

imagecodecs reads what PACS exports often hold: lossless JPEG and JPEG of 12 bits with libjpeg-turbo, JPEG-LS with CharLS.
Of the decoders that pydicom knows, gdcm ends the process on damaged pixels, and pylibjpeg-libjpeg has another licence.
"""

import importlib.util
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
from pydicom.pixels.decoders.base import DecodeRunner

from medisync.errors import ImageError
from medisync.imaging.formats import JPEG_END
from medisync.imaging.jpeg_frames import read_frame

JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)

DECODER_DEPENDENCIES: Mapping[uid.UID, tuple[str, ...]] = dict.fromkeys((*JPEG, *JPEG_LS), ("imagecodecs",))
"""pydicom's protocol for plugins, as the names of the next two functions."""

PACKAGES = "pylibjpeg and pylibjpeg-openjpeg"
"""What reads High-Throughput JPEG 2000, the only compression of still images left without a decoder here."""


def is_available(syntax: str) -> bool:
    return syntax in DECODER_DEPENDENCIES and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decodes one frame; pydicom calls it. Raises ValueError if its size is not that of the file's fields."""
    import imagecodecs  # here because it is large and few files need it

    frame = read_frame(source)  # damaged images may be of any size
    if frame is None or (frame.height, frame.width) != (runner.rows, runner.columns):
        raise ValueError("the size of the compressed image differs from the file's fields")
    if not source.rstrip(b"\0").endswith(JPEG_END):  # libjpeg fills what is missing with grey
        raise ValueError("the compressed image is cut off")
    decode = imagecodecs.jpegls_decode if runner.transfer_syntax in JPEG_LS else imagecodecs.jpeg8_decode
    pixels: NDArray[np.unsignedinteger] = decode(source)
    if pixels.size != runner.rows * runner.columns * runner.samples_per_pixel:
        raise ValueError("the number of colours of the compressed image differs from the file's fields")
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
        runner.set_option("photometric_interpretation", "RGB")
    return pixels.astype(f"<u{runner.bits_allocated // 8}").tobytes()


for _syntax in DECODER_DEPENDENCIES:
    get_decoder(_syntax).add_plugin("imagecodecs", (__name__, decode_frame.__name__))


def require_decoder(syntax: uid.UID) -> None:
    """Raises ImageError, which names the transfer syntax and what to do, if nothing here decodes it."""
    try:
        if get_decoder(syntax).is_available:
            return
        missing = get_decoder(syntax).missing_dependencies
    except NotImplementedError:
        known = syntax.name if syntax.name != syntax else "which is not a DICOM one that pydicom knows"
        raise ImageError(
            f"its transfer syntax, {known}, is not one of still images that can be read; export its images uncompressed"
        ) from None
    wanted = PACKAGES if any("openjpeg" in each for each in missing) else "imagecodecs"
    raise ImageError(
        f"no decoder is installed for its transfer syntax, {syntax.name}; install {wanted}, or export it uncompressed"
    )
