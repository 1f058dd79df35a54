"""Uploaded files -> the images in them, in memory."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from medisync.data.formats import UPLOAD_SUFFIXES

ACCEPTED = tuple(suffix.rpartition(".")[2] for suffix in UPLOAD_SUFFIXES)
"""File name endings for the uploader, which does not support double ones: `.nii.gz` ends in `.gz`."""

MAX_MEMBERS = 200
MAX_UNPACKED = 200 * 2**20
MAX_CONTENTS = 2 * 2**20
"""Bytes of an archive's table of contents: about 20,000 files."""

UNREADABLE = (
    zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, struct.error
)  # fmt: skip
"""The exceptions that `zipfile` raises for arbitrary bytes; NotImplementedError is a RuntimeError."""

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz")


@dataclass(frozen=True)
class Upload:
    """One scan: its name, a key that is unique in the session, and the bytes of its file, or of the files of its series."""

    name: str
    key: str
    files: tuple[bytes, ...]
    problem: str = ""
    """The reason why there are no files; empty if there are."""


def expand(name: str, key: str, content: bytes) -> list[Upload]:
    """Returns the file itself, or the images in it if it is a ZIP archive.

    An archive that is over a limit or looks hostile is refused before anything is unpacked. Refusals and errors are
    reported as the `problem` of a scan.
    """
    if not content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return [Upload(name, key, (content,))]
    try:
        if _contents_bytes(content) > MAX_CONTENTS:
            return [Upload(name, key, (), f"the archive lists too many files; upload at most {MAX_MEMBERS} at once")]
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if problem := _refusal(archive.infolist()):
                return [Upload(name, key, (), problem)]
            return list(_members(archive, name, key))
    except UNREADABLE:
        return [Upload(name, key, (), "the archive is damaged")]


def _contents_bytes(content: bytes) -> int:
    """Returns the size of the archive's table of contents, from its last record (APPNOTE 4.3.16): reading it takes memory."""
    end = content.rfind(b"PK\x05\x06")
    return int(struct.unpack_from("<I", content, end + 12)[0]) if end >= 0 else 0


def _refusal(members: Sequence[zipfile.ZipInfo]) -> str:
    """Returns the reason why nothing is unpacked; empty if there is none."""
    if any(_leads_outside(member.filename) for member in members):
        return "the archive has members with paths outside it (..), so nothing was unpacked"
    chosen = [member for member in members if _is_image(member)]
    if len(chosen) > MAX_MEMBERS:
        return f"the archive contains {len(chosen):,} images; upload at most {MAX_MEMBERS} at once"
    if sum(member.file_size for member in chosen) > MAX_UNPACKED:
        return f"the archive unpacks to more than the limit of {MAX_UNPACKED >> 20} MB"
    if not chosen and any(member.filename.lower().endswith(ARCHIVES) for member in members):
        return "the archive contains another archive, which is not opened; upload the images themselves"
    return "" if chosen else "the archive contains no images"


def _leads_outside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or name.startswith(("/", "\\")) or ":" in name.partition("/")[0]


def _members(archive: zipfile.ZipFile, name: str, key: str) -> Iterator[Upload]:
    for index, member in enumerate(filter(_is_image, archive.infolist())):
        inner, inner_key = f"{name}: {member.filename}", f"{key}-{index}"
        if member.flag_bits & 1:
            yield Upload(inner, inner_key, (), "the file is encrypted in the archive; upload it without a password")
            continue
        try:
            yield Upload(
                inner, inner_key, (archive.read(member),)
            )  # never more than its entry says, and entries were added up
        except UNREADABLE:
            yield Upload(inner, inner_key, (), "the file is damaged in the archive")


def _is_image(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not member.is_dir() and not hidden and member.filename.lower().endswith(UPLOAD_SUFFIXES)
