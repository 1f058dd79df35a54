"""The accepted file formats: names, suffixes, and the first bytes that tell them apart."""

import re
import struct
import zlib

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""Suffixes that make a file in a hospital's dataset an image."""

SCAN_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".hdr", ".img")
"""Suffixes of files that claim to be scans; a file with one is never left out in silence, whatever its content."""

IMAGES = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
"""Image formats, by Pillow's names."""

VOLUMES = ("DICOM", "NIfTI")

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
IMAGE_STARTS = (JPEG_START, PNG_START, *TIFF_STARTS, b"GIF8")
"""First bytes of image files; of BMP and WebP more is needed."""

BITMAP_HEADERS = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}
"""Sizes of the headers of BMP files, as these give them."""

GZIP_START, ZIP_STARTS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")

HEAD_BYTES = 1024
"""Bytes from the beginning of a file that tell its format."""

DICOMDIR = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![.\d])")
"""The class of a DICOM medium's table of contents (PS3.6, Media Storage Directory Storage)."""

DICOM_IMAGE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?!4\.2(?![.\d]))([1-7]|12|20|128|130)(?!\d)")
"""The classes of images (PS3.6); spectra, reports, presentation states and documents have others."""


def is_picture(data: bytes) -> bool:
    """Recognises image files, by more than the two letters of a BMP file and the container of a WebP file."""
    if data.startswith(b"BM"):  # as many texts do
        return data[14:18] in BITMAP_HEADERS
    if data.startswith(b"RIFF"):
        return data[8:12] == b"WEBP"
    return data.startswith(IMAGE_STARTS)


def is_dicom(data: bytes) -> bool:
    """Recognises DICOM files, also those that lack the preamble of 128 bytes (PS3.10, 7.1)."""
    return data[128:132] == b"DICM" or _begins_with_elements(data)


def _begins_with_elements(data: bytes) -> bool:
    """Recognises two ascending data elements, the first of group 2 or 8, as no other format begins with."""
    first = _element(data, 0)
    if first is None or first[0] >> 16 not in (0x0002, 0x0008):
        return False
    second = _element(data, first[1])
    return second is not None and first[0] < second[0] and second[0] >> 16 <= 0x0020


def _element(data: bytes, offset: int) -> tuple[int, int] | None:
    """Returns the tag of the little-endian data element at `offset`, and where the next one begins (PS3.5, 7.1)."""
    if len(data) < offset + 12:
        return None
    group, element = struct.unpack_from("<HH", data, offset)
    kind = data[offset + 4 : offset + 6]
    if kind in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        header, length = 12, struct.unpack_from("<I", data, offset + 8)[0]
    elif kind.isalpha() and kind.isupper():
        header, length = 8, struct.unpack_from("<H", data, offset + 6)[0]
    else:
        header, length = 8, struct.unpack_from("<I", data, offset + 4)[0]
    return (group << 16) + element, offset + header + length


def is_dicomdir(data: bytes) -> bool:
    """Recognises the table of contents of a CD with DICOM files."""
    return is_dicom(data) and DICOMDIR.search(data, 128, 512) is not None


def is_dicom_image(data: bytes) -> bool:
    """Recognises DICOM files that should hold an image, by the class in their file meta information."""
    return is_dicom(data) and DICOM_IMAGE.search(data, 128, 512) is not None


def is_gzip(data: bytes) -> bool:
    return data[:2] == GZIP_START


def decompressed(head: bytes) -> bytes:
    """Returns the beginning of what a gzip file holds, from its own beginning; of any other file `head` itself."""
    if not is_gzip(head):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def is_nifti1(data: bytes) -> bool:
    return data[344:348] == b"n+1\x00"


def is_nifti(data: bytes) -> bool:
    """Recognises NIfTI-1 and NIfTI-2, uncompressed, in one file."""
    return is_nifti1(data) or data[4:8] == b"n+2\x00"


def is_analyze_header(data: bytes) -> bool:
    """Recognises the header of an Analyze 7.5 or NIfTI pair, whose pixels are in another file."""
    begins_like_one = data[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c") and len(data) >= 348
    return (begins_like_one and not is_nifti1(data)) or data[4:8] == b"ni2\x00"


def is_volume(data: bytes) -> bool:
    """Recognises DICOM, NIfTI, headers of Analyze pairs, and gzip, in which NIfTI files are usually compressed."""
    return is_dicom(data) or is_gzip(data) or is_nifti(data) or is_analyze_header(data)


def claims_to_be_a_scan(name: str) -> bool:
    """Tells from its suffix whether a file is meant to be a scan."""
    return name.lower().endswith((*SCAN_SUFFIXES, ".hdr.gz", ".img.gz"))


def is_header_name(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(".hdr")


def other_halves(name: str) -> tuple[str, ...]:
    """Returns, in lower case, the names that the other file of an Analyze pair may have; none if `name` is of no pair."""
    stem, _, suffix = name.lower().removesuffix(".gz").rpartition(".")
    other = {"hdr": "img", "img": "hdr"}.get(suffix)
    return (f"{stem}.{other}", f"{stem}.{other}.gz") if other else ()
