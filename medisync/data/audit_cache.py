"""An audit takes minutes and mostly says what it said last time: its record is kept until something that it read changes."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from medisync.config import Hospital
from medisync.data.discovery import Found
from medisync.schemas import AuditRecord
from medisync.version import software
from medisync.workspace.atomic import write_bytes


def recall(
    cache: Path,
    hospitals: Sequence[Hospital],
    found: Mapping[str, Found],
    dataset: Path,
    make: Callable[[], AuditRecord],
) -> AuditRecord:
    """The record kept in `cache` of these hospitals, if it is of what is there now; else what `make` finds, which is kept.

    Every set of hospitals has one file: several audits may share a folder, and old ones do not pile up.
    """
    described = "".join(hospital.model_dump_json() for hospital in hospitals)
    kept = cache / f"audit-{hashlib.sha256(described.encode()).hexdigest()[:16]}.json"
    key = _state_of(found, dataset)
    if (record := _read(kept, key)) is None:
        record = make()
        write_bytes(kept, key + record.model_dump_json().encode())
    return record


def _state_of(found: Mapping[str, Found], dataset: Path) -> bytes:
    """A digest that differs where anything that the audit depends on does, without opening a file.

    A file's place on the disk and the time of its last change of any kind, which nobody can set, stand for its content.
    """
    digest = hashlib.sha256(f"{software()}\0{dataset.resolve()}\0{found}".encode())
    for path in (dataset / file.path for things in found.values() for file in things.files):
        with suppress(OSError):  # gone since: the audit will say so
            state = path.stat()
            digest.update(
                f"{state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n".encode()
            )
    return digest.digest()


def _read(kept: Path, key: bytes) -> AuditRecord | None:
    """None where nothing was kept, or of another state, or what was kept is damaged."""
    with suppress(OSError, ValidationError):
        content = kept.read_bytes()
        if content.startswith(key):
            return AuditRecord.model_validate_json(content[len(key) :])
    return None
