"""The accepted file formats: names, suffixes, and the first bytes that tell them apart."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""Suffixes that make a file in a hospital's dataset an image."""

UPLOAD_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".nii", ".nii.gz")
"""Suffixes accepted for prediction, which also takes one slice of a volume."""

IMAGES = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
"""Image formats, by Pillow's names."""

VOLUMES = ("DICOM", "NIfTI")

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
IMAGE_STARTS = (JPEG_START, PNG_START, b"II*\x00", b"MM\x00*", b"GIF8", b"RIFF")
"""First bytes of image files."""

GZIP_START = b"\x1f\x8b"


def is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def is_gzip(data: bytes) -> bool:
    return data[:2] == GZIP_START


def is_nifti1(data: bytes) -> bool:
    return data[344:348] == b"n+1\x00"


def is_nifti(data: bytes) -> bool:
    """Recognises NIfTI-1 and NIfTI-2, uncompressed."""
    return is_nifti1(data) or data[4:8] == b"n+2\x00"


def is_volume(data: bytes) -> bool:
    """Recognises DICOM, NIfTI and gzip, in which NIfTI files are usually compressed."""
    return is_dicom(data) or is_gzip(data) or is_nifti(data)
