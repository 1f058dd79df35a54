"""A hospital in a networked federation: the audit and split of its own images, and its introduction to the server."""

from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medisync.data import audit, splits
from medisync.errors import ConfigError, DataError
from medisync.network import settings
from medisync.network.settings import HospitalSettings
from medisync.schemas import LABELS, AuditRecord, FolderAudit, HospitalAudit, HospitalSplit, Introduction, SplitRecord
from medisync.training.dataset import HospitalData, open_hospital
from medisync.version import software
from medisync.workspace import artifacts
from medisync.workspace.atomic import write_bytes

INTRODUCTION = "introduction.json"

_introduction = TypeAdapter(Introduction)
_split = TypeAdapter(HospitalSplit)


def prepare(hospital: HospitalSettings) -> Introduction:
    """Audits and splits the hospital's images, saves both to its state folder, and returns the introduction.

    Raises DataError if the dataset is missing, holds no usable image, or differs from the split made beforehand.
    """
    if not hospital.dataset.is_dir():
        raise DataError(f"{hospital.dataset}: this dataset folder does not exist; correct `dataset` in hospital.toml")
    described = hospital.as_hospital()
    audited = audit.audit_hospitals([described], hospital.root, hospital.state / "cache")
    print(audit.brief(audited), flush=True)
    audit.require_images(audited, [described], hospital.root)
    record = _split_images(hospital, audited)
    splits.require_no_leak(record)
    introduction = introduce(hospital, audited, record)
    artifacts.write(hospital.state, artifacts.AUDIT, audited)
    artifacts.write(hospital.state, artifacts.SPLITS, record)
    write_bytes(hospital.state / INTRODUCTION, _introduction.dump_json(introduction, indent=1))
    return introduction


def _split_images(hospital: HospitalSettings, audited: AuditRecord) -> SplitRecord:
    if hospital.split_file is None:
        return splits.split(audited, hospital.split, [hospital.as_hospital()])
    try:
        part = _split.validate_json(hospital.split_file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{hospital.split_file}: is not a split of one hospital's images ({reason})") from None
    known = {image.path: image.sha256 for image in audited.images}
    for image in (*part.train, *part.val, *part.test):
        if known.get(image.path) != image.sha256:
            raise DataError(f"{image.path}: differs from the image that {hospital.split_file.name} was made for")
    return SplitRecord(**hospital.split.model_dump(), hospitals={hospital.name: part}, notes=["made beforehand"])


def introduce(hospital: HospitalSettings, audited: AuditRecord, record: SplitRecord) -> Introduction:
    """Returns names and counts for the server: no path, no name of a folder or patient, nothing of an image."""
    described = hospital.as_hospital()
    return Introduction(
        hospital=hospital.name,
        version=software(),
        labels=list(LABELS),
        synthetic=audited.synthetic,
        dataset_id=hospital.dataset_id,
        specialty=hospital.specialty,
        source=hospital.source,
        licence=hospital.licence,
        stats=splits.dataset_stats(record, audited, [described])[hospital.name],
        audit=_counts_of(audited.hospitals[hospital.name]),
    )


def _counts_of(found: HospitalAudit) -> HospitalAudit:
    folders = [
        FolderAudit(name=label, label=label, images=images)
        for label, images in found.class_distribution.items()
        if images
    ]
    own = len(found.notes) + len(found.warnings)
    note = f"keeps {own} {'note' if own == 1 else 'notes'} of its own"
    return found.model_copy(update={"path": "", "folders": folders, "notes": [note] if own else [], "warnings": []})


@lru_cache(maxsize=2)
def read_settings(file: Path) -> HospitalSettings:
    return settings.read(HospitalSettings, file)


def read_introduction(file: Path) -> Introduction:
    """Returns the introduction that `prepare` saved, with this process's own version.

    Raises DataError if the hospital's images were not prepared.
    """
    stored = read_settings(file).state / INTRODUCTION
    try:
        return _introduction.validate_json(stored.read_bytes()).model_copy(update={"version": software()})
    except (OSError, ValidationError):
        raise DataError(
            f"{stored.parent}: no prepared images; start `medisync federation hospital {file.name}`"
        ) from None


@lru_cache(maxsize=2)
def open_images(file: Path, size: int) -> tuple[str, HospitalData]:
    """Returns the hospital's name and its images, `size` pixels a side, from its cache; decodes them on first use."""
    hospital = read_settings(file)
    record: SplitRecord = artifacts.read(hospital.state, artifacts.SPLITS)
    return hospital.name, open_hospital(record.hospitals[hospital.name], hospital.root, size, hospital.state / "cache")
