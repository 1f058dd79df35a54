"""Hospital folders -> AuditRecord: what is there, what cannot be used and why, and which images show the same slice.

In this simulation one program sees the thumbnails of all hospitals and so finds copies across them. A real federation
would have to compare hashes that do not reveal the scan.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medisync.config import Hospital
from medisync.data import audit_cache, near_duplicates
from medisync.data.decoding import decode, file_bytes
from medisync.data.discovery import File, Found, discover
from medisync.data.intensities import Pixels
from medisync.data.near_duplicates import Pair
from medisync.data.parallel import map_files
from medisync.errors import DataError, ImageError, printable
from medisync.schemas import (
    LABELS,
    PHANTOM_MARKER,
    AuditedImage,
    AuditRecord,
    CopyPair,
    HospitalAudit,
    ImageStatus,
    LabelConflict,
    Overlap,
)

FREQUENT_SIZES = 10
EXAMPLES = 24


@dataclass(frozen=True)
class Reading:
    """What one file holds, or the reason why it holds nothing usable."""

    reason: str = ""
    sha256: str = ""
    pixels_sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    notes: tuple[str, ...] = ()
    thumbnail: Pixels = field(default_factory=lambda: np.empty((0, 0), np.uint8))


UNRESOLVED = Reading(reason="its folder is in no class map")


@dataclass(frozen=True)
class Entry:
    """A file of a hospital, with what was read from it."""

    hospital: str
    file: File
    reading: Reading

    @property
    def is_read(self) -> bool:
        return not self.reading.reason


def audit_hospitals(hospitals: Sequence[Hospital], dataset: Path, cache: Path | None = None) -> AuditRecord:
    """Looks at every file of every hospital, with a progress bar, on all cores; no image stays in memory.

    With a `cache` folder the record is kept there, and given back while neither a file, nor a list of patients, nor a
    hospital's entry, nor this program has changed. Raises DataError where a list of patients cannot be read.
    """
    found = {hospital.name: discover(hospital, dataset) for hospital in hospitals}
    make = partial(_audit, hospitals, found, dataset)
    return audit_cache.recall(cache, hospitals, found, dataset, make) if cache else make()


def _audit(hospitals: Sequence[Hospital], found: Mapping[str, Found], dataset: Path) -> AuditRecord:
    entries = _read_all(found, dataset)
    read = [entry for entry in entries if entry.is_read]
    pairs = _find_copies(read)
    slices = near_duplicates.components(len(read), ((pair.first, pair.second) for pair in pairs))
    groups = near_duplicates.components(len(read), _same_slice_or_patient(read, slices.tolist()))
    conflicts = _conflicts(read, slices.tolist())
    quarantined = {conflict.slice for conflict in conflicts}
    numbers = zip(slices.tolist(), groups.tolist(), strict=True)
    images = [_audited(entry, next(numbers) if entry.is_read else None, quarantined) for entry in entries]
    return AuditRecord(
        synthetic=(dataset / PHANTOM_MARKER).exists(),
        hospitals={
            hospital.name: _summarise(
                hospital,
                found[hospital.name],
                [image for image in images if image.hospital == hospital.name],
                len({entry.reading.pixels_sha256 for entry in read if entry.hospital == hospital.name}),
            )
            for hospital in hospitals
        },
        overlaps=_overlaps(images),
        examples=_examples(read, pairs),
        conflicts=conflicts,
        images=images,
    )


def _read_all(found: Mapping[str, Found], dataset: Path) -> list[Entry]:
    """Reads the files whose label is known; those in unresolved folders stay closed."""
    files = [(hospital, file) for hospital, things in found.items() for file in things.files]
    known = [dataset / file.path for _, file in files if file.label]
    with tqdm(map_files(read_file, known), total=len(known), desc="audit", unit="images", mininterval=0.5) as bar:
        readings = iter(bar)
        return [Entry(hospital, file, next(readings) if file.label else UNRESOLVED) for hospital, file in files]


def read_file(path: Path) -> Reading:
    """Decodes one file completely and keeps only what identifies it."""
    try:
        data = file_bytes(path)
    except ImageError as error:
        return Reading(reason=str(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode(data)
    except ImageError as error:
        return Reading(reason=str(error), sha256=digest)
    return Reading(
        sha256=digest,
        pixels_sha256=hashlib.sha256(str(decoded.pixels.shape).encode() + decoded.pixels.tobytes()).hexdigest(),
        width=decoded.width,
        height=decoded.height,
        mode=decoded.mode,
        notes=decoded.notes,
        thumbnail=near_duplicates.thumbnail(decoded.pixels),
    )


def _find_copies(read: Sequence[Entry]) -> list[Pair]:
    """Pairs of the same pixels first, then pairs of the same slice in other pixels."""
    exact = list(_exact_pairs(read))
    known = {(pair.first, pair.second) for pair in exact}
    thumbnails = np.stack([entry.reading.thumbnail for entry in read]) if read else np.empty((0, 1, 1), np.uint8)
    near = near_duplicates.find_pairs(thumbnails, partial(tqdm, desc="copies", unit="steps", mininterval=0.5))
    return exact + [pair for pair in near if (pair.first, pair.second) not in known]


def _exact_pairs(read: Sequence[Entry]) -> Iterator[Pair]:
    first: dict[str, int] = {}
    for index, entry in enumerate(read):
        earlier = first.setdefault(entry.reading.pixels_sha256, index)
        if earlier != index:
            yield Pair(earlier, index, 1.0, mirrored=False)


def _same_slice_or_patient(read: Sequence[Entry], slices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Edges that join the images of a slice and the images of a patient; a patient's name counts in one hospital only."""
    first: dict[object, int] = {}
    for index, (entry, slice_number) in enumerate(zip(read, slices, strict=True)):
        yield first.setdefault(slice_number, index), index
        if entry.file.patient is not None:
            yield first.setdefault((entry.hospital, entry.file.patient), index), index


def _conflicts(read: Sequence[Entry], slices: Sequence[int]) -> list[LabelConflict]:
    members: dict[int, list[File]] = defaultdict(list)
    for entry, slice_number in zip(read, slices, strict=True):
        members[slice_number].append(entry.file)
    return [
        LabelConflict(
            slice=number,
            paths=[file.path for file in files],
            labels=[label for label in LABELS if any(file.label == label for file in files)],
        )
        for number, files in members.items()
        if len({file.label for file in files}) > 1
    ]


def _audited(entry: Entry, numbers: tuple[int, int] | None, quarantined: set[int]) -> AuditedImage:
    slice_number, group = numbers or (None, None)
    status, reason = _status(entry, slice_number in quarantined)
    return AuditedImage(
        hospital=entry.hospital,
        path=entry.file.path,
        label=entry.file.label,
        group=group,
        slice=slice_number,
        status=status,
        reason=reason,
        patient=entry.file.patient,
        sha256=entry.reading.sha256,
        width=entry.reading.width,
        height=entry.reading.height,
        mode=entry.reading.mode,
        notes=list(entry.reading.notes),
    )


def _status(entry: Entry, is_quarantined: bool) -> tuple[ImageStatus, str]:
    if entry.file.label is None:
        return "unresolved", entry.reading.reason
    if entry.reading.reason:
        return "unreadable", entry.reading.reason
    if is_quarantined:
        return "quarantined", "the same slice occurs under another label"
    return "ok", ""


def _summarise(hospital: Hospital, found: Found, images: Sequence[AuditedImage], distinct_pixels: int) -> HospitalAudit:
    status = Counter(image.status for image in images)
    usable = [image for image in images if image.status == "ok"]
    read = [image for image in images if image.slice is not None]
    labels = Counter(image.label for image in usable)
    return HospitalAudit(
        path=hospital.path,
        folders=found.folders,
        class_distribution={label: labels[label] for label in LABELS},
        total=len(usable),
        unresolved=status["unresolved"],
        unreadable=status["unreadable"],
        quarantined=status["quarantined"],
        skipped=dict(found.skipped),
        sizes=_most_frequent(f"{image.width}x{image.height}" for image in read),
        modes=_most_frequent(image.mode for image in read),
        patients=len({image.patient for image in usable if image.patient is not None}),
        exact_copies=len(read) - distinct_pixels,
        near_copies=distinct_pixels - len({image.slice for image in read}),
        notes=[*found.notes, *_conversions(read), *_patients_of_two_classes(usable)],
    )


def _most_frequent(values: Iterable[str]) -> dict[str, int]:
    counted = Counter(values)
    frequent = dict(counted.most_common(FREQUENT_SIZES))
    others = counted.total() - sum(frequent.values())
    return frequent | {"other": others} if others else frequent


def _conversions(images: Sequence[AuditedImage]) -> list[str]:
    counted = Counter(note for image in images for note in image.notes)
    return [f"{count} images: {note}" for note, count in counted.most_common()]


def _patients_of_two_classes(images: Sequence[AuditedImage]) -> list[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.patient is not None and image.label is not None:
            labels[image.patient].add(image.label)
    return [
        f"patient {patient} has images of {' and '.join(sorted(several))}"
        for patient, several in labels.items()
        if len(several) > 1
    ]


def _overlaps(images: Sequence[AuditedImage]) -> list[Overlap]:
    owners: dict[int, set[str]] = defaultdict(set)
    for image in images:
        if image.slice is not None:
            owners[image.slice].add(image.hospital)
    counted = Counter(
        (image.hospital, other)
        for image in images
        if image.slice is not None
        for other in sorted(owners[image.slice] - {image.hospital})
    )
    return [Overlap(hospital=hospital, other=other, images=count) for (hospital, other), count in counted.items()]


def _examples(read: Sequence[Entry], pairs: Sequence[Pair]) -> list[CopyPair]:
    """Pairs from the surest to the least sure, half of them across hospitals; same pixels need no looking at."""
    near = sorted((pair for pair in pairs if pair.correlation < 1), key=lambda pair: -pair.correlation)
    across = [pair for pair in near if read[pair.first].hospital != read[pair.second].hospital]
    inside = [pair for pair in near if read[pair.first].hospital == read[pair.second].hospital]
    chosen = [*_spread(across, EXAMPLES // 2), *_spread(inside, EXAMPLES // 2)]
    return [
        CopyPair(
            first=read[pair.first].file.path,
            second=read[pair.second].file.path,
            correlation=round(pair.correlation, 4),
            mirrored=pair.mirrored,
        )
        for pair in chosen
    ]


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most `count` of the pairs, at even distances, the first and the last among them."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(index * (len(pairs) - 1) / (count - 1))] for index in range(count)]


def require_images(record: AuditRecord, hospitals: Sequence[Hospital], dataset: Path) -> None:
    """Raises DataError, with every path that was tried, if a hospital has no usable image."""
    empty = [hospital for hospital in hospitals if not record.hospitals[hospital.name].total]
    if not empty:
        return
    tried = [
        f"  {hospital.name}: {dataset / hospital.path}/ with a folder named {' or '.join(sorted(hospital.class_map))}"
        for hospital in empty
    ]
    raise DataError(
        "no usable image in:\n"
        + "\n".join(tried)
        + "\nPut the images there, or change `path` and `class_map` in DATASETS"
    )


def log_lines(record: AuditRecord) -> list[str]:
    """The audit in sentences, for the log and the terminal; every file that was left out is named."""
    lines = ["the data are synthetic phantoms, not scans of people"] if record.synthetic else []
    for name, hospital in record.hospitals.items():
        lines += [f"{name}: {line}" for line in _hospital_lines(hospital)]
    lines += [f"{o.images} images of {o.hospital} show a slice that {o.other} has too" for o in record.overlaps]
    lines += [
        f"the same slice under {' and '.join(conflict.labels)}: {', '.join(conflict.paths)}"
        for conflict in record.conflicts
    ]
    lines += [f"left out: {image.path}: {image.reason}" for image in record.images if image.status == "unreadable"]
    return [printable(line) for line in lines]


def _hospital_lines(hospital: HospitalAudit) -> Iterator[str]:
    classes = ", ".join(f"{label} {count}" for label, count in hospital.class_distribution.items())
    yield f"{hospital.total} usable images in {hospital.path} ({classes})"
    for folder in hospital.folders:
        yield f"folder {folder.name!r} -> {folder.label or 'unresolved, left out'}: {folder.images} images"
    yield (
        f"{hospital.unresolved} unresolved, {hospital.unreadable} unreadable, {hospital.quarantined} quarantined, "
        f"{hospital.exact_copies} exact and {hospital.near_copies} near copies, {hospital.patients or 'no'} patient ids"
    )
    for reason, count in hospital.skipped.items():
        yield f"skipped {count}: {reason}"
    yield from hospital.notes
