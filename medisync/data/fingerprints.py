"""Fingerprints of image files: hashes, size, and a thumbnail to find copies by; the pixels are dropped."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medisync.data import near_duplicates
from medisync.data.decoding import decode, file_bytes
from medisync.data.discovery import File
from medisync.data.intensities import Pixels
from medisync.errors import ImageError


@dataclass(frozen=True)
class Fingerprint:
    """The result of decoding one file; `reason` says why a file is not usable, and is empty for a usable one."""

    reason: str = ""
    sha256: str = ""
    pixels_sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    notes: tuple[str, ...] = ()
    thumbnail: Pixels = field(default_factory=lambda: np.empty((0, 0), np.uint8))


@dataclass(frozen=True)
class Entry:
    """A file of a hospital with its fingerprint."""

    hospital: str
    file: File
    fingerprint: Fingerprint

    @property
    def is_readable(self) -> bool:
        return not self.fingerprint.reason


def fingerprint_file(path: Path) -> Fingerprint:
    """Decodes one file completely and keeps only what identifies it."""
    try:
        data = file_bytes(path)
    except ImageError as error:
        return Fingerprint(reason=str(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode(data)
    except ImageError as error:
        return Fingerprint(reason=str(error), sha256=digest)
    return Fingerprint(
        sha256=digest,
        pixels_sha256=hashlib.sha256(str(decoded.pixels.shape).encode() + decoded.pixels.tobytes()).hexdigest(),
        width=decoded.width,
        height=decoded.height,
        mode=decoded.mode,
        notes=decoded.notes,
        thumbnail=near_duplicates.thumbnail(decoded.pixels),
    )
