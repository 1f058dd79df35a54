"""The audit of an external dataset: which of its images can be evaluated, because no hospital has them.

It depends on the hospitals' images; nothing of the hospitals' audit depends on it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from medisync.config import ExternalDataset
from medisync.data import near_duplicates
from medisync.data.discovery import HospitalFiles
from medisync.data.fingerprints import Entry
from medisync.data.related_images import Relations, relate
from medisync.imaging.file_tree import HIDDEN
from medisync.schemas import ExternalAudit, ExternalImage, FolderAudit

UNRESOLVED = "in no class folder"
UNREADABLE = "unreadable"
COPY = "copies of hospitals' scans"
RELATED = "of one patient with copies of hospitals' scans"
CONFLICT = "of one slice under several labels"
"""Why images are excluded, as it is said after their number."""


def audit_dataset(
    dataset: ExternalDataset, listed: HospitalFiles, entries: Sequence[Entry], hospitals: Sequence[Entry]
) -> ExternalAudit:
    """Audits the `entries` of one external dataset against the readable images of all hospitals."""
    readable = [entry for entry in entries if entry.is_readable]
    relations = relate(readable)
    reasons = _reasons(relations, set(_copies(hospitals, readable)))
    numbers = iter(zip(relations.groups, reasons, strict=True))
    images = [_audited(entry, *(next(numbers) if entry.is_readable else (None, ""))) for entry in entries]
    return ExternalAudit(
        path=dataset.path,
        source=dataset.source,
        licence=dataset.licence,
        folders=listed.folders,
        total=sum(not image.excluded for image in images),
        excluded=dict(Counter(category(image) for image in images if image.excluded)),
        skipped={reason: number for reason, number in listed.skipped.items() if reason != HIDDEN},
        notes=listed.notes,
        warnings=listed.warnings,
        images=images,
    )


def category(image: ExternalImage) -> str:
    """Returns why an image is excluded, without what is particular to it."""
    return image.excluded.split(":")[0]


def _copies(hospitals: Sequence[Entry], images: Sequence[Entry]) -> Iterator[int]:
    """Yields the positions of images that show a slice which a hospital has."""
    pixels = {entry.fingerprint.pixels_sha256 for entry in hospitals}
    yield from (index for index, entry in enumerate(images) if entry.fingerprint.pixels_sha256 in pixels)
    if hospitals and images:
        theirs, ours = (np.stack([entry.fingerprint.thumbnail for entry in each]) for each in (hospitals, images))
        yield from (pair.second for pair in near_duplicates.find_copies(theirs, ours))


def _reasons(relations: Relations, copies: set[int]) -> list[str]:
    """Returns why each readable image is excluded; empty for one that is not."""
    slices, groups = ({numbers[index] for index in copies} for numbers in (relations.slices, relations.groups))
    doubtful = {conflict.slice for conflict in relations.conflicts}
    return [
        COPY if number in slices else RELATED if group in groups else CONFLICT if number in doubtful else ""
        for number, group in zip(relations.slices, relations.groups, strict=True)
    ]


def _audited(entry: Entry, group: int | None, excluded: str) -> ExternalImage:
    if entry.file.label is None:
        excluded = UNRESOLVED
    elif entry.fingerprint.reason:
        excluded = f"{UNREADABLE}: {entry.fingerprint.reason}"
    return ExternalImage(
        path=entry.file.path,
        label=entry.file.label,
        group=group,
        sha256=entry.fingerprint.sha256,
        excluded=excluded,
    )


def evaluated_folders(record: ExternalAudit) -> list[FolderAudit]:
    """Returns the folders that have a label, with the number of images to evaluate in each."""
    labelled = [folder for folder in record.folders if folder.label]
    names, depth = {folder.name for folder in labelled}, len(PurePosixPath(record.path).parts)
    inside = (PurePosixPath(*PurePosixPath(each.path).parts[depth:]) for each in record.images if not each.excluded)
    counted = Counter(next(str(folder) for folder in path.parents if str(folder) in names) for path in inside)
    return [folder.model_copy(update={"images": counted[folder.name]}) for folder in labelled]
