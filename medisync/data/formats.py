"""The accepted file formats: names, suffixes, and the first bytes that tell them apart."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""Suffixes that make a file in a hospital's dataset an image."""

UPLOAD_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".nii", ".nii.gz")
"""Suffixes accepted for prediction, which also takes one slice of a volume."""

IMAGES = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
"""Image formats, by Pillow's names."""

VOLUMES = ("DICOM", "NIfTI")

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
IMAGE_STARTS = (JPEG_START, PNG_START, b"II*\x00", b"MM\x00*", b"GIF8", b"RIFF", b"BM")
"""First bytes of image files."""

GZIP_START, ZIP_STARTS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")

HEAD_BYTES = 1024
"""Bytes from the beginning of a file that tell its format."""

_FIRST_ELEMENTS = (
    b"\x02\x00\x00\x00UL",
    b"\x02\x00\x10\x00UI",
    b"\x08\x00\x05\x00",
    b"\x08\x00\x08\x00",
    b"\x08\x00\x16\x00",
)
"""Beginnings of DICOM files without preamble: the group length, the transfer syntax, or one of the first fields of an image."""


def is_dicom(data: bytes) -> bool:
    """Recognises DICOM files, also those that lack the preamble of 128 bytes (PS3.10, 7.1)."""
    return data[128:132] == b"DICM" or data.startswith(_FIRST_ELEMENTS)


def is_gzip(data: bytes) -> bool:
    return data[:2] == GZIP_START


def is_nifti1(data: bytes) -> bool:
    return data[344:348] == b"n+1\x00"


def is_nifti(data: bytes) -> bool:
    """Recognises NIfTI-1 and NIfTI-2, uncompressed, in one file."""
    return is_nifti1(data) or data[4:8] == b"n+2\x00"


def is_analyze_header(data: bytes) -> bool:
    """Recognises the header of an Analyze 7.5 or NIfTI pair, whose pixels are in another file."""
    if data[4:8] == b"ni2\x00":
        return True
    return data[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c") and not is_nifti1(data)


def is_volume(data: bytes) -> bool:
    """Recognises DICOM, NIfTI, headers of Analyze pairs, and gzip, in which NIfTI files are usually compressed."""
    return is_dicom(data) or is_gzip(data) or is_nifti(data) or is_analyze_header(data)
