"""Names files that are no scans, by their first bytes, and says what to do with them."""

from medisync.imaging.formats import ZIP_STARTS, decompressed, is_gzip

TO_NIFTI = "convert it to NIfTI"
TO_PNG = "export the image as PNG"
UNPACK, DECOMPRESS = "unpack it", "decompress it"

UNKNOWN = "file of unknown type"
ARCHIVE = "archive"

OFFICE = (b"[Content_Types].xml", b"mimetypeapplication/")
"""What the first member of a document that is a ZIP file is called."""

FORMATS = (
    (0, b"\x00\x00\x00\x01\x00\x00", "an MGH or MGZ volume (FreeSurfer)", "convert it to NIfTI with mri_convert"),
    (0, b"CDF\x01", "a MINC 1 volume or another NetCDF file", "convert it to NIfTI with mnc2nii"),
    (0, b"CDF\x02", "a MINC 1 volume or another NetCDF file", "convert it to NIfTI with mnc2nii"),
    (0, b"\x89HDF\r\n\x1a\n", "a MINC 2 volume or another HDF5 file", TO_NIFTI),
    (0, b"MATLAB 5.0 MAT", "a MATLAB file (.mat)", TO_PNG),
    (0, b"MATLAB 7", "a MATLAB file (.mat)", TO_PNG),
    (0, b"NRRD0", "an NRRD volume (3D Slicer)", TO_NIFTI),
    (0, b"ObjectType", "a MetaImage volume (.mha or .mhd)", TO_NIFTI),
    (0, b"NDims", "a MetaImage volume (.mha or .mhd)", TO_NIFTI),
    (0, b"MATRIX7", "an ECAT volume", TO_NIFTI),
    (0, b"# === DATA DESCRIPTION FILE", "a header of Philips PAR/REC", TO_NIFTI),
    (0, b"\x93NUMPY", "a NumPy array", TO_PNG),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file", TO_PNG),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file", TO_PNG),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL file", TO_PNG),
    (0, b"\xff\x0a", "a JPEG XL file", TO_PNG),
    (4, b"ftyphei", "an HEIC photograph", TO_PNG),
    (4, b"ftypmif1", "an HEIC photograph", TO_PNG),
    (4, b"ftypavif", "an AVIF image", TO_PNG),
    (4, b"ftyp", "a video", "export a single picture as PNG"),
    (8, b"AVI ", "a video", "export a single picture as PNG"),
    (8, b"WAVE", "a sound", TO_PNG),
    (0, b"\x1a\x45\xdf\xa3", "a video", "export a single picture as PNG"),
    (0, b"8BPS", "a Photoshop file", TO_PNG),
    (0, b"%PDF", "a PDF document", TO_PNG),
    (0, b"%!PS", "a PostScript drawing", TO_PNG),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document", UNPACK),
    (0, b"\xd0\xcf\x11\xe0", "an Office document", "export its picture as PNG"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "an RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"BZh", "compressed with bzip2", DECOMPRESS),
    (0, b"\xfd7zXZ\x00", "compressed with xz", DECOMPRESS),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", DECOMPRESS),
    (0, b"version https://git-lfs", "a Git LFS pointer without the file itself", "fetch the file with git lfs pull"),
    (0, b"<?xml", "an XML or SVG file", TO_PNG),
    (0, b"<svg", "an SVG drawing", TO_PNG),
    (0, b"<!doctype html", "a web page", "download the file again"),
    (0, b"<html", "a web page", "download the file again"),
)
"""Place and value of the first bytes, the format's name and what to do. Of two that fit, the first counts."""


def foreign_format(data: bytes) -> str | None:
    """Returns what the file is and what to do with it, such as "an NRRD volume (3D Slicer); convert it to NIfTI"."""
    found = _find(data)
    return "; ".join(found) if found else None


def _find(data: bytes) -> tuple[str, str] | None:
    lower = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for place, start, name, advice in FORMATS:
        if data.startswith(start, place) or (start.startswith(b"<") and lower.startswith(start)):
            return name, advice
    return None


def name_of(head: bytes) -> str:
    """Returns a noun such as "PDF document" for the file that begins with `head`, which is no scan."""
    if is_gzip(head):
        return ARCHIVE if _is_tar(decompressed(head)) else "compressed file that holds no NIfTI volume"
    if head.startswith(ZIP_STARTS):
        return "Office document" if head[30:90].startswith(OFFICE) else ARCHIVE
    if not (known := _find(head)):
        return _text(head)
    noun = known[0].removeprefix("an ").removeprefix("a ")
    return ARCHIVE if known[1] in (UNPACK, DECOMPRESS) else noun


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _text(head: bytes) -> str:
    is_text = head.startswith((b"\xff\xfe", b"\xfe\xff")) or all(
        byte >= 32 or byte in b"\t\n\f\r\x1a\x1b" for byte in head
    )
    return "text file" if is_text else UNKNOWN
