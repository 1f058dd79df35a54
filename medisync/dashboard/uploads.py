"""Uploaded files -> the scans in them, in memory."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medisync.errors import ImageError
from medisync.imaging.archives import Limits, is_zip, list_archive
from medisync.imaging.file_tree import HIDDEN, LeftOut, is_system
from medisync.imaging.formats import HEAD_BYTES
from medisync.imaging.limits import MAX_BYTES
from medisync.imaging.scan_files import Entry, Found, ScanFiles, sort_files

MAX_SCANS = 200
"""Scans that an archive may hold; a DICOM series is one, however many files it has."""

MAX_UNPACKED = 200 * 2**20
LIMITS = Limits(files=5_000, unpacked=MAX_UNPACKED)


@dataclass(frozen=True)
class Sent:
    """A file as it was uploaded."""

    name: str
    key: str
    """Unique in the session."""
    content: bytes

    @property
    def is_archive(self) -> bool:
        return is_zip(self.content[:HEAD_BYTES])


@dataclass(frozen=True)
class Upload:
    """One scan: its name, a key that is unique in the session, and the bytes of its file, or of the files of its series."""

    name: str
    key: str
    files: tuple[bytes, ...]
    problem: str = ""
    """The reason why there are no files; empty if there are."""


def expand(sent: Sequence[Sent]) -> tuple[list[Upload], LeftOut]:
    """Returns the scans in files that were uploaded together, and what is no scan.

    Files of one DICOM series, and both of an Analyze pair, are one scan. A file that is none is an upload with the reason
    as its `problem`; files in an archive, hidden files and what accompanies DICOM images are only counted. An archive that
    is over a limit or looks hostile is refused before anything is unpacked.
    """
    found = _sort([file for file in sent if not file.is_archive])
    uploads, left_out = _read_all(found.scans), found.left_out
    for archive in (file for file in sent if file.is_archive):
        try:
            inside = _open(archive)
            uploads += _read_all(inside.scans, f"{archive.name}: ", f"{archive.key}-")
            left_out.update(inside.left_out)
        except ImageError as problem:
            uploads.append(Upload(archive.name, archive.key, (), str(problem)))
    return uploads, left_out


def _sort(sent: Iterable[Sent]) -> Found:
    hidden = LeftOut()
    entries = []
    for file in sent:
        if any(map(is_system, file.name.split("/"))):
            hidden.add(HIDDEN, file.name)
        else:
            entries.append(_entry(file))
    found = sort_files(entries)
    found.left_out.update(hidden)
    return found


def _entry(file: Sent) -> Entry:
    def read() -> bytes:
        if len(file.content) > MAX_BYTES:
            raise ImageError(f"the file has over {MAX_BYTES >> 20} MB, which is the limit")
        return file.content

    return Entry(file.name, len(file.content), lambda size: file.content[:size], read, named=True, key=file.key)


def _open(archive: Sent) -> Found:
    """Finds the scans in an archive. Raises ImageError for one without scans, and for one that is over a limit."""
    entries, left_out = list_archive(io.BytesIO(archive.content), LIMITS)
    found = sort_files(entries, "the archive")
    found.left_out.update(left_out)
    if not found.scans:
        raise ImageError(
            f"the archive contains no scan, only {found.left_out}" if found.left_out else "the archive is empty"
        )
    if len(found.scans) > MAX_SCANS:
        raise ImageError(f"the archive contains {len(found.scans):,} scans; upload at most {MAX_SCANS} at once")
    if sum(scan.size for scan in found.scans) > MAX_UNPACKED:
        raise ImageError(f"the archive unpacks to more than the limit of {MAX_UNPACKED >> 20} MB")
    return found


def _read_all(scans: Iterable[ScanFiles], name: str = "", key: str = "") -> list[Upload]:
    return [_read(scan, name + scan.name, key + _key(scan)) for scan in scans]


def _read(scan: ScanFiles, name: str, key: str) -> Upload:
    try:
        return Upload(name, key, tuple(scan.read()))
    except ImageError as problem:
        return Upload(name, key, (), str(problem))


def _key(scan: ScanFiles) -> str:
    """Returns another key for the same series with other files."""
    keys = [entry.key for entry in scan.entries]
    return keys[0] if len(keys) == 1 else hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
