"""Names for files that are no scans, by their first bytes: what was found where a scan was expected."""

from medisync.data.formats import ZIP_STARTS, decompressed, is_gzip

UNKNOWN = "file of unknown type"
ARCHIVE = "archive"

STARTS = {
    b"%PDF": "PDF document",
    b"%!PS": "PostScript document",
    b"{\\rtf": "RTF document",
    b"\xd0\xcf\x11\xe0": "Office document",
    b"7z\xbc\xaf\x27\x1c": ARCHIVE,
    b"Rar!\x1a\x07": ARCHIVE,
    b"BZh": ARCHIVE,
    b"\xfd7zXZ": ARCHIVE,
    b"\x28\xb5\x2f\xfd": ARCHIVE,
    b"NRRD": "NRRD volume",
    b"CDF\x01": "MINC volume",
    b"\x89HDF": "HDF5 file",
    b"MATLAB 5.0": "MATLAB file",
    b"\x93NUMPY": "NumPy file",
    b"ObjectType": "MetaImage header",
    b"NDims": "MetaImage header",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000 picture",
    b"\xffO\xffQ": "JPEG 2000 picture",
    b"8BPS": "Photoshop picture",
    b"MZ": "Windows program",
    b"\x7fELF": "program",
    b"SQLite format 3": "database",
}

OFFICE = (b"[Content_Types].xml", b"mimetypeapplication/")
"""What the first member of a document that is a ZIP file is called."""

BRANDS = {b"heic": "HEIC picture", b"heix": "HEIC picture", b"mif1": "HEIC picture", b"avif": "AVIF picture"}


def name_of(head: bytes) -> str:
    """Returns a noun such as "PDF document" for the file that begins with `head`, which is no scan."""
    if is_gzip(head):
        return ARCHIVE if _is_tar(decompressed(head)) else "compressed file that holds no NIfTI volume"
    if head.startswith(ZIP_STARTS):
        return "Office document" if head[30:90].startswith(OFFICE) else ARCHIVE
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "video")
    for start, name in STARTS.items():
        if head.startswith(start):
            return name
    return ARCHIVE if _is_tar(head) else _text(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text file"
    if any(byte < 32 and byte not in b"\t\n\f\r\x1a\x1b" for byte in head):
        return UNKNOWN
    beginning = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if beginning.startswith(b"<"):
        return "SVG drawing" if b"<svg" in beginning else "HTML or XML page"
    return "text file"
