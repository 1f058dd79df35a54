"""Names formats that are not read here, by their first bytes, and says what to do with them."""

_TO_NIFTI = "convert it to NIfTI"
_TO_PNG = "export the image as PNG"

_FORMATS = (
    (0, b"\x00\x00\x00\x01\x00\x00", "an MGH or MGZ volume (FreeSurfer)", "convert it to NIfTI with mri_convert"),
    (0, b"CDF\x01", "a MINC 1 volume or another NetCDF file", "convert it to NIfTI with mnc2nii"),
    (0, b"CDF\x02", "a MINC 1 volume or another NetCDF file", "convert it to NIfTI with mnc2nii"),
    (0, b"\x89HDF\r\n\x1a\n", "a MINC 2 volume or another HDF5 file", _TO_NIFTI),
    (0, b"MATLAB 5.0 MAT", "a MATLAB file (.mat)", _TO_PNG),
    (0, b"MATLAB 7", "a MATLAB file (.mat)", _TO_PNG),
    (0, b"NRRD0", "an NRRD volume (3D Slicer)", _TO_NIFTI),
    (0, b"ObjectType", "a MetaImage volume (.mha or .mhd)", _TO_NIFTI),
    (0, b"NDims", "a MetaImage volume (.mha or .mhd)", _TO_NIFTI),
    (0, b"MATRIX7", "an ECAT volume", _TO_NIFTI),
    (0, b"# === DATA DESCRIPTION FILE", "a header of Philips PAR/REC", _TO_NIFTI),
    (0, b"\x93NUMPY", "a NumPy array", _TO_PNG),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file", _TO_PNG),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file", _TO_PNG),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL file", _TO_PNG),
    (0, b"\xff\x0a", "a JPEG XL file", _TO_PNG),
    (4, b"ftyphei", "an HEIC photograph", _TO_PNG),
    (4, b"ftypmif1", "an HEIC photograph", _TO_PNG),
    (4, b"ftypavif", "an AVIF image", _TO_PNG),
    (4, b"ftyp", "a video", "export a single picture as PNG"),
    (8, b"AVI ", "a video", "export a single picture as PNG"),
    (8, b"WAVE", "a sound", _TO_PNG),
    (0, b"\x1a\x45\xdf\xa3", "a video", "export a single picture as PNG"),
    (0, b"8BPS", "a Photoshop file", _TO_PNG),
    (0, b"%PDF", "a PDF document", _TO_PNG),
    (0, b"%!PS", "a PostScript drawing", _TO_PNG),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document", "unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (0, b"Rar!\x1a\x07", "an RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"BZh", "compressed with bzip2", "decompress it"),
    (0, b"\xfd7zXZ\x00", "compressed with xz", "decompress it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "decompress it"),
    (0, b"version https://git-lfs", "a Git LFS pointer without the file itself", "fetch the file with git lfs pull"),
    (0, b"<?xml", "an XML or SVG file", _TO_PNG),
    (0, b"<svg", "an SVG drawing", _TO_PNG),
    (0, b"<!doctype html", "a web page", "download the file again"),
    (0, b"<html", "a web page", "download the file again"),
)
"""Place and value of the first bytes, the format's name and what to do. Of two that fit, the first counts."""


def foreign_format(data: bytes) -> str | None:
    """Returns what the file is and what to do with it, such as "an NRRD volume (3D Slicer); convert it to NIfTI"."""
    lower = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for place, start, name, advice in _FORMATS:
        if data.startswith(start, place) or (start.startswith(b"<") and lower.startswith(start)):
            return f"{name}; {advice}"
    return None
