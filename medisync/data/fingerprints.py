"""Fingerprints of image files: hashes, size, and a thumbnail to find copies by; the pixels are dropped."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medisync.data import near_duplicates
from medisync.data.discovery import File
from medisync.errors import ImageError
from medisync.imaging.decoding import file_bytes, open_scan
from medisync.imaging.formats import is_dicom
from medisync.imaging.intensities import Pixels

PATIENT_FIELDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""DICOM fields that tell patients apart, best first; an examination is of one patient."""


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
    patient_key: str = ""
    """Hash that the slices of one patient share, from the header of a DICOM file; written nowhere."""
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
        scan = open_scan([data])
        if scan.count > 1:
            raise ImageError(f"a volume of {scan.count} slices; datasets take single slices: export them")
        decoded = scan.decode()
    except ImageError as error:
        return Fingerprint(reason=str(error), sha256=digest)
    return Fingerprint(
        sha256=digest,
        pixels_sha256=hashlib.sha256(str(decoded.pixels.shape).encode() + decoded.pixels.tobytes()).hexdigest(),
        width=decoded.width,
        height=decoded.height,
        mode=decoded.mode,
        notes=decoded.notes,
        patient_key=_patient_key(data),
        thumbnail=near_duplicates.thumbnail(decoded.pixels),
    )


def _patient_key(data: bytes) -> str:
    """Returns a hash that the slices of a patient share; empty for other files and where the header names nobody."""
    if not is_dicom(data):
        return ""
    from pydicom.tag import Tag

    from medisync.imaging.dicom_file import parse

    try:
        fields = parse(data, header_only=True, only=[Tag(name) for name in PATIENT_FIELDS]).fields
        named = ((name, str(fields.get(name) or "").strip()) for name in PATIENT_FIELDS)
        name, value = next(pair for pair in named if pair[1])
    except Exception:  # arbitrary bytes make pydicom raise anything; decoding says what is wrong  # noqa: BLE001
        return ""
    return hashlib.sha256(f"{name} {value}".encode()).hexdigest()
