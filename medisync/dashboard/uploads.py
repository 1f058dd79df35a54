"""Files as they were uploaded -> the images in them, in memory; no streamlit, no torch."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from medisync.images import UPLOAD_SUFFIXES

ACCEPTED = tuple(suffix.rpartition(".")[2] for suffix in UPLOAD_SUFFIXES)
"""File name endings for the uploader, which knows no double ones: `.nii.gz` ends in `.gz`."""

MAX_MEMBERS = 200
MAX_UNPACKED = 300 * 2**20


@dataclass(frozen=True)
class Scan:
    """One image file: its name, a key that tells it from all others of the session, and its bytes."""

    name: str
    key: str
    content: bytes
    problem: str = ""
    """Why there is no content."""


def expand(name: str, key: str, content: bytes) -> list[Scan]:
    """The file itself, or the images in it if it is a ZIP archive, up to the limits; anything amiss is a scan's problem."""
    if not content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return [Scan(name, key, content)]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return list(_members(archive, name, key)) or [Scan(name, key, b"", "the archive holds no image")]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, zlib.error, NotImplementedError):
        return [Scan(name, key, b"", "the archive is damaged")]


def _members(archive: zipfile.ZipFile, name: str, key: str) -> Iterator[Scan]:
    chosen = [member for member in archive.infolist() if _is_image(member)]
    unpacked = 0
    for place, member in enumerate(chosen[:MAX_MEMBERS]):
        inner, inner_key = f"{name}: {member.filename}", f"{key}-{place}"
        if member.flag_bits & 1:
            yield Scan(inner, inner_key, b"", "it is encrypted in the archive")
            continue
        with archive.open(member) as stream:
            content = stream.read(MAX_UNPACKED - unpacked + 1)
        unpacked += len(content)
        if unpacked > MAX_UNPACKED:
            yield Scan(inner, inner_key, b"", f"the archive unpacks to more than {MAX_UNPACKED // 2**20} MB")
            return
        yield Scan(inner, inner_key, content)
    if len(chosen) > MAX_MEMBERS:
        yield Scan(
            name, f"{key}-rest", b"", f"{len(chosen) - MAX_MEMBERS} more images: upload at most {MAX_MEMBERS} at once"
        )


def _is_image(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not member.is_dir() and not hidden and member.filename.lower().endswith(UPLOAD_SUFFIXES)
