"""Numbers the patients whom DICOM headers tell apart, so that nothing of a header is written anywhere."""

from collections.abc import Sequence
from dataclasses import replace

from medisync.data.fingerprints import Entry


def number_patients(entries: Sequence[Entry]) -> list[Entry]:
    """Gives images that patients.csv does not list a patient `dicom-1`, `dicom-2`, ... in order of appearance.

    The numbers are per hospital. A list takes precedence over the headers, which may all say "anonymous": the key of a listed
    image is dropped, unless it ties an image to it that is not listed.
    """
    unlisted = {_scope(entry) for entry in entries if entry.file.patient is None and entry.fingerprint.patient_key}
    numbers: dict[tuple[str, str], str] = {}
    count: dict[str, int] = {}
    for scope in (_scope(entry) for entry in entries):
        if scope in unlisted and scope not in numbers:
            count[scope[0]] = count.get(scope[0], 0) + 1
            numbers[scope] = f"dicom-{count[scope[0]]}"
    return [_numbered(entry, numbers.get(_scope(entry))) for entry in entries]


def _scope(entry: Entry) -> tuple[str, str]:
    return entry.hospital, entry.fingerprint.patient_key


def _numbered(entry: Entry, number: str | None) -> Entry:
    if number is None:
        return replace(entry, fingerprint=replace(entry.fingerprint, patient_key=""))
    return replace(entry, file=replace(entry.file, patient=entry.file.patient or number))
