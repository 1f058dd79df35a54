"""Nouns for files that are no scans: what was found where a scan was expected."""

from medisync.data.foreign import foreign_format
from medisync.data.formats import ZIP_STARTS, decompressed, is_gzip

UNKNOWN = "file of unknown type"
ARCHIVE = "archive"

OFFICE = (b"[Content_Types].xml", b"mimetypeapplication/")
"""What the first member of a document that is a ZIP file is called."""


def name_of(head: bytes) -> str:
    """Returns a noun such as "PDF document" for the file that begins with `head`, which is no scan."""
    if is_gzip(head):
        return ARCHIVE if _is_tar(decompressed(head)) else "compressed file that holds no NIfTI volume"
    if head.startswith(ZIP_STARTS):
        return "Office document" if head[30:90].startswith(OFFICE) else ARCHIVE
    if known := foreign_format(head):
        noun = known.partition(";")[0].removeprefix("an ").removeprefix("a ")
        return ARCHIVE if "archive" in noun or noun.startswith("compressed with") else noun
    return "Office document" if head.startswith(b"\xd0\xcf\x11\xe0") else _text(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _text(head: bytes) -> str:
    is_text = head.startswith((b"\xff\xfe", b"\xfe\xff")) or all(
        byte >= 32 or byte in b"\t\n\f\r\x1a\x1b" for byte in head
    )
    return "text file" if is_text else UNKNOWN
