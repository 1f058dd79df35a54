"""Tells which DICOM files belong together, without reading their pixels."""

import hashlib
from dataclasses import dataclass

from pydicom.tag import Tag

from medisync.data.dicom_file import parse
from medisync.errors import ImageError

DESCRIBED = [Tag(name) for name in ("ImageType", "SeriesInstanceUID", "NumberOfFrames")]


@dataclass(frozen=True)
class Header:
    """What is known of a DICOM file without its pixels."""

    series: str
    """Key of its series, the same for all its slices; empty for a file that is a scan of its own."""
    has_image: bool
    """False for a DICOMDIR, a report, a presentation state and whatever else has no pixels."""


def describe(data: bytes) -> Header:
    """Reads the header of a DICOM file. Raises ImageError if it cannot be parsed.

    A file with several frames, and a mosaic, is a volume and therefore a scan of its own. The key is a hash: a series'
    UID identifies an examination.
    """
    try:
        parsed = parse(data, header_only=True, only=DESCRIBED)
        fields = parsed.fields
        uid = str(fields.get("SeriesInstanceUID") or "")
        alone = int(fields.get("NumberOfFrames") or 1) > 1 or "MOSAIC" in str(fields.get("ImageType"))
    except ImageError:
        raise
    except Exception as error:  # arbitrary bytes make pydicom raise anything  # noqa: BLE001
        raise ImageError(f"the DICOM header is damaged ({type(error).__name__})") from None
    key = hashlib.sha256(uid.encode()).hexdigest()[:16]
    return Header("" if alone or not uid else key, parsed.has_pixels)


def series_key(data: bytes) -> str | None:
    """Returns the key of a slice's series; None for a file that belongs to no series, such as one without an image."""
    header = describe(data)
    return header.series or None if header.has_image else None
