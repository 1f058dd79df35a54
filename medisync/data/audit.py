"""Hospital folders to an AuditRecord: which images there are, which cannot be used and why, and which are related.

In this simulation one program sees the thumbnails of all hospitals, and so finds copies across them. A real federation
would have to compare hashes that do not reveal the scan.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from medisync.config import ExternalDataset, Hospital
from medisync.data import audit_cache, audit_summary, external_audit, layout_hints
from medisync.data.dicom_patients import number_patients
from medisync.data.discovery import HospitalFiles, discover
from medisync.data.fingerprints import Entry, Fingerprint, fingerprint_file
from medisync.data.parallel import map_files
from medisync.data.related_images import relate
from medisync.errors import DataError, printable
from medisync.imaging.file_tree import HIDDEN
from medisync.schemas import OTHER, PHANTOM_MARKER, AuditedImage, AuditRecord, ExternalAudit, HospitalAudit, ImageStatus

UNRESOLVED = Fingerprint(reason="its folder is not in the class map")


def audit_hospitals(
    hospitals: Sequence[Hospital], dataset: Path, cache: Path | None = None, external: Sequence[ExternalDataset] = ()
) -> AuditRecord:
    """Decodes every file of every hospital on all cores, with a progress bar; no image stays in memory.

    Images of `external` datasets are compared with the hospitals', of which the record says the same without them.

    With a `cache` folder, the record is stored there and returned again as long as no file, list of patients,
    hospital's entry or code of this program has changed. Raises DataError if a list of patients cannot be read.
    """
    listed = {hospital.name: discover(hospital, dataset) for hospital in hospitals}
    outside = {each.name: discover(each, dataset) for each in external}
    compute = partial(_audit, hospitals, listed, external, outside, dataset)
    if not cache:
        return compute()
    return audit_cache.recall(cache, [*hospitals, *external], [*listed.values(), *outside.values()], dataset, compute)


def _audit(
    hospitals: Sequence[Hospital],
    listed: Mapping[str, HospitalFiles],
    external: Sequence[ExternalDataset],
    outside: Mapping[str, HospitalFiles],
    dataset: Path,
) -> AuditRecord:
    entries = number_patients(_fingerprint_all(listed, dataset))
    readable = [entry for entry in entries if entry.is_readable]
    relations = relate(readable)
    quarantined = {conflict.slice for conflict in relations.conflicts}
    numbers = zip(relations.slices, relations.groups, strict=True)
    images = [_audited(entry, next(numbers) if entry.is_readable else None, quarantined) for entry in entries]
    return AuditRecord(
        synthetic=(dataset / PHANTOM_MARKER).exists(),
        hospitals={
            hospital.name: audit_summary.summarise(
                hospital,
                listed[hospital.name],
                [image for image in images if image.hospital == hospital.name],
                len({entry.fingerprint.pixels_sha256 for entry in readable if entry.hospital == hospital.name}),
            )
            for hospital in hospitals
        },
        overlaps=audit_summary.overlaps(images),
        examples=audit_summary.examples(readable, relations.pairs),
        conflicts=relations.conflicts,
        images=images,
        external={each.name: _audit_external(each, outside[each.name], dataset, readable) for each in external},
    )


def _audit_external(
    external: ExternalDataset, listed: HospitalFiles, dataset: Path, hospitals: Sequence[Entry]
) -> ExternalAudit:
    entries = number_patients(_fingerprint_all({external.name: listed}, dataset))
    return external_audit.audit_dataset(external, listed, entries, hospitals)


def _fingerprint_all(listed: Mapping[str, HospitalFiles], dataset: Path) -> list[Entry]:
    """Decodes the files whose label is known; those in unresolved folders are not opened."""
    files = [(hospital, file) for hospital, folder in listed.items() for file in folder.files]
    labelled = [dataset / file.path for _, file in files if file.label]
    progress = partial(tqdm, total=len(labelled), desc="audit", unit="images", mininterval=0.5)
    with progress(map_files(fingerprint_file, labelled)) as bar:
        fingerprints = iter(bar)
        return [Entry(hospital, file, next(fingerprints) if file.label else UNRESOLVED) for hospital, file in files]


def _audited(entry: Entry, numbers: tuple[int, int] | None, quarantined: set[int]) -> AuditedImage:
    slice_number, group = numbers or (None, None)
    status, reason = _status(entry, slice_number in quarantined)
    return AuditedImage(
        hospital=entry.hospital,
        path=entry.file.path,
        label=None if entry.file.label == OTHER else entry.file.label,
        group=group,
        slice=slice_number,
        status=status,
        reason=reason,
        patient=entry.file.patient,
        sha256=entry.fingerprint.sha256,
        width=entry.fingerprint.width,
        height=entry.fingerprint.height,
        mode=entry.fingerprint.mode,
        notes=list(entry.fingerprint.notes),
    )


def _status(entry: Entry, is_quarantined: bool) -> tuple[ImageStatus, str]:
    if entry.file.label is None:
        return "unresolved", entry.fingerprint.reason
    if entry.fingerprint.reason:
        return "unreadable", entry.fingerprint.reason
    if is_quarantined:
        return "quarantined", "the same slice occurs under another label"
    return "ok", ""


def require_images(record: AuditRecord, hospitals: Sequence[Hospital], dataset: Path) -> None:
    """Raises DataError, with every path that was tried and what lies nearby, if a hospital has no usable image.

    So it does if an external dataset has no image to evaluate.
    """
    _require_external_images(record, dataset)
    empty = [hospital for hospital in hospitals if not record.hospitals[hospital.name].total]
    if not empty:
        return
    tried = []
    for hospital in empty:
        nearby = layout_hints.hints(hospital, record.hospitals[hospital.name], hospitals, dataset)
        expected = f"{dataset / hospital.path}/ with a folder named {' or '.join(sorted(hospital.class_map))}"
        tried.append(f"  {hospital.name}: {expected}; {'; '.join(nearby)}")
    raise DataError(
        "no usable image in:\n"
        + "\n".join(tried)
        + "\nPut the images there, or change `path` and `class_map` in DATASETS"
    )


def _require_external_images(record: AuditRecord, dataset: Path) -> None:
    for name, found in record.external.items():
        if not found.total:
            reasons = "; ".join([*_external_left_out(found), *found.warnings]) or "it is empty"
            raise DataError(
                f"external dataset {name!r}: no image to evaluate in {dataset / found.path}/: {printable(reasons)}"
            )


def log_lines(record: AuditRecord) -> list[str]:
    """Returns the audit in sentences, for the log and the terminal; they name every file that was left out."""
    lines = ["the data are synthetic phantoms, not scans of people"] if record.synthetic else []
    for name, hospital in record.hospitals.items():
        lines += [f"{name}: {line}" for line in _hospital_lines(hospital)]
    lines += [f"{o.images} images of {o.hospital} show a slice that {o.other} also has" for o in record.overlaps]
    lines += [
        f"one slice is labelled {' and '.join(conflict.labels)}: {', '.join(conflict.paths)}"
        for conflict in record.conflicts
    ]
    lines += [f"left out: {image.path}: {image.reason}" for image in record.images if image.status == "unreadable"]
    for name, external in record.external.items():
        lines += [f"{name}: {line}" for line in _external_lines(external)]
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


def _external_lines(external: ExternalAudit) -> Iterator[str]:
    yield f"external dataset: {external.total} images to evaluate in {external.path}, none to train on"
    for folder in external.folders:
        yield f"folder {folder.name!r} -> {folder.label or 'unresolved, left out'}: {folder.images} images"
    yield from (f"left out {reason}" for reason in _external_left_out(external))
    yield from external.notes
    for image in external.images:
        if external_audit.category(image) == external_audit.UNREADABLE:
            yield f"left out: {image.path}: {image.excluded}"


def _external_left_out(external: ExternalAudit) -> list[str]:
    skipped = {f"skipped: {reason}": number for reason, number in external.skipped.items()}
    return [f"{number:,} {reason}" for reason, number in {**external.excluded, **skipped}.items()]


def warnings(record: AuditRecord) -> list[str]:
    """Returns what was left out of whole folders, and what is not known about patients, one line each."""
    sources: list[tuple[str, HospitalAudit | ExternalAudit]] = [*record.hospitals.items(), *record.external.items()]
    return [printable(f"{name}: {text}") for name, found in sources for text in found.warnings]


def brief(record: AuditRecord) -> str:
    """Returns the audit in a few lines: per hospital how many images there are, what was left out, and what is doubtful."""
    lines = ["the data are synthetic phantoms, not scans of people"] if record.synthetic else []
    lines += [f"{name}: {found.total:,} usable images{_left_out(found)}" for name, found in record.hospitals.items()]
    lines += [
        f"{name}: {found.total:,} images for external evaluation{_said(_external_left_out(found))}"
        for name, found in record.external.items()
    ]
    return "\n".join([*map(printable, lines), *(f"warning: {line}" for line in warnings(record))])


def _left_out(hospital: HospitalAudit) -> str:
    skipped = {f"skipped: {reason}": number for reason, number in hospital.skipped.items() if reason != HIDDEN}
    counts = {
        "in no class folder": hospital.unresolved,
        "unreadable": hospital.unreadable,
        "quarantined": hospital.quarantined,
        **skipped,
    }
    return _said(f"{number:,} {reason}" for reason, number in counts.items() if number)


def _said(left_out: Iterable[str]) -> str:
    said = ", ".join(left_out)
    return f"; left out: {said}" if said else ""
