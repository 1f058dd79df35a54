"""Lists what a ZIP archive holds, without unpacking it: hostile archives are refused from their table of contents."""

import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from medisync.errors import ImageError
from medisync.imaging.file_tree import HIDDEN, LeftOut, is_system
from medisync.imaging.foreign import ARCHIVE, name_of
from medisync.imaging.formats import ZIP_STARTS, claims_to_be_a_scan
from medisync.imaging.limits import MAX_BYTES
from medisync.imaging.scan_files import Entry

UNREADABLE = (
    zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, struct.error
)  # fmt: skip
"""The exceptions that `zipfile` raises for arbitrary bytes."""

LAST_RECORDS = 2**16 + 200
"""Bytes at the end of an archive that hold its last records and the longest comment."""

BEYOND_32_BITS = 0xFFFFFFFF

CONTENTS_BYTES_A_FILE = 512
"""Bytes of the table of contents that a file takes at most, with a long name."""

END = b"PK\x05\x06"
"""Begins the last record of an archive."""

SLOW_METHODS = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
"""Methods that `zipfile` cannot decompress in bounded pieces."""

MAX_SLOW = 200
"""Files in one archive that may be compressed with them."""

READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, *SLOW_METHODS)

METHODS = {9: "Deflate64, as Windows does beyond 2 GB", 93: "Zstandard", 95: "xz", 97: "WavPack", 98: "PPMd", 99: "AES"}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold."""

    files: int
    unpacked: int
    """Bytes of the files that claim to be scans."""


def is_zip(head: bytes) -> bool:
    """Recognises ZIP archives, but not the office documents that are ZIP files too."""
    return head.startswith(ZIP_STARTS) and name_of(head) == ARCHIVE


def list_archive(source: Path | IO[bytes], limits: Limits) -> tuple[list[Entry], LeftOut]:
    """Returns the files in an archive, which are read when they are asked for, and what is left out for its name.

    A file on disk is closed with the last of its entries. Raises ImageError, with one sentence, for an archive that is
    damaged, over a limit or hostile; nothing of it has been unpacked then.
    """
    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
            _require_short_contents(stream, limits)
        archive = zipfile.ZipFile(source)
    except UNREADABLE as error:
        raise ImageError(_cannot_be_read(error)) from None
    members = [member for member in archive.infolist() if not member.is_dir()]
    try:
        _require_harmless(members, limits)
    except ImageError:
        archive.close()
        raise
    return _entries(archive, members)


def _cannot_be_read(error: Exception) -> str:
    """Tells a file that the system does not give out from a damaged one."""
    return (
        f"cannot be read: {error.strerror}"
        if isinstance(error, OSError) and error.strerror
        else "the archive is damaged"
    )


def _require_short_contents(stream: IO[bytes], limits: Limits) -> None:
    """Refuses an archive whose table of contents takes much memory, from its last record (APPNOTE 4.3.14 and 4.3.16)."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - LAST_RECORDS))
    tail = stream.read()
    end = len(tail) - 22 if tail[-22:-18] == END and tail.endswith(b"\0\0") else tail.rfind(END)
    if end < 0:
        raise ImageError("the archive is damaged: its table of contents, which stands at its end, is missing")
    (size,) = struct.unpack_from("<I", tail, end + 12)
    if size == BEYOND_32_BITS:
        (size,) = struct.unpack_from("<Q", tail, max(0, tail.rfind(b"PK\x06\x06")) + 40)
    if size > limits.files * CONTENTS_BYTES_A_FILE:
        raise ImageError(f"the archive lists too many files; the limit is {limits.files:,} at once")


def _require_harmless(members: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    if any(_leads_outside(member.filename) for member in members):
        raise ImageError("the archive has members with paths outside it (..), so nothing was unpacked")
    if len(members) > limits.files:
        raise ImageError(f"the archive contains {len(members):,} files; the limit is {limits.files:,} at once")
    if sum(member.file_size for member in members if claims_to_be_a_scan(member.filename)) > limits.unpacked:
        raise ImageError(f"the archive unpacks to more than the limit of {limits.unpacked >> 20} MB")
    if sum(member.compress_type in SLOW_METHODS for member in members) > MAX_SLOW:
        raise ImageError(
            f"the archive has over {MAX_SLOW} files packed with bzip2 or LZMA; pack them as an ordinary ZIP"
        )


def _leads_outside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None


def _entries(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> tuple[list[Entry], LeftOut]:
    entries, left_out = [], LeftOut()
    for index, member in enumerate(members):
        name = member.filename.replace("\\", "/")
        if any(map(is_system, name.split("/"))):
            left_out.add(HIDDEN, name)
        else:
            read = partial(_read, archive, member)
            entries.append(Entry(name, member.file_size, read, partial(read, None), key=str(index)))
    return entries, left_out


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int | None) -> bytes:
    """Reads a member, or `size` bytes of it; never more than its entry in the table of contents says."""
    if member.flag_bits & 1:
        raise ImageError("the file is encrypted in the archive; pack it without a password")
    if member.compress_type not in READABLE_METHODS:
        method = METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise ImageError(f"the file is packed in a way that is not read here ({method}); pack it as an ordinary ZIP")
    if size is None and member.file_size > MAX_BYTES:
        raise ImageError(f"the file has {member.file_size >> 20} MB, more than the limit of {MAX_BYTES >> 20} MB")
    try:
        with archive.open(member) as content:
            return content.read(-1 if size is None else size)
    except UNREADABLE:
        raise ImageError("the file is damaged in the archive") from None
