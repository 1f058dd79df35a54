"""Stores the record of an audit, which takes minutes, until something that the audit depends on changes."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from medisync.config import ExternalDataset, Hospital
from medisync.data.discovery import HospitalFiles
from medisync.schemas import AuditRecord
from medisync.version import software
from medisync.workspace.atomic import write_bytes


def recall(
    cache: Path,
    datasets: Sequence[Hospital | ExternalDataset],
    listed: Sequence[HospitalFiles],
    dataset: Path,
    compute: Callable[[], AuditRecord],
) -> AuditRecord:
    """Returns the record stored in `cache` for these datasets while it is valid, else computes and stores a new one.

    Every set of them has its own file, so that several audits can share a folder and old records do not pile up.
    """
    described = "".join(each.model_dump_json() for each in datasets)
    stored = cache / f"audit-{hashlib.sha256(described.encode()).hexdigest()[:16]}.json"
    key = _state_of(listed, dataset)
    if (record := _load(stored, key)) is None:
        record = compute()
        write_bytes(stored, key + record.model_dump_json().encode())
    return record


def _state_of(listed: Sequence[HospitalFiles], dataset: Path) -> bytes:
    """Returns a digest that changes with anything that the audit depends on, without opening a file.

    The content of a file is represented by its inode and by the time of its last change of any kind (ctime), which
    nobody can set.
    """
    digest = hashlib.sha256(f"{software()}\0{dataset.resolve()}\0{listed}".encode())
    for path in (dataset / file.path for folder in listed for file in folder.files):
        with suppress(OSError):  # gone in the meantime: the audit will report it
            state = path.stat()
            digest.update(
                f"{state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n".encode()
            )
    return digest.digest()


def _load(stored: Path, key: bytes) -> AuditRecord | None:
    """Returns None if there is no record, or it belongs to another state, or it is damaged."""
    with suppress(OSError, ValidationError):
        content = stored.read_bytes()
        if content.startswith(key):
            return AuditRecord.model_validate_json(content[len(key) :])
    return None
