"""The workspace: the only module that knows what files are called and how they are written.

Whatever is written appears whole or not at all: a temporary file in the same folder, fsync, rename. A run is complete
once its run.json is there, which names every other file with its SHA-256.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medisync.errors import ArtifactError
from medisync.schemas import (
    AuditRecord,
    BaselineRecord,
    DatasetStats,
    HistoryEntry,
    LabelMap,
    ModelMeta,
    Progress,
    RunRecord,
    RunStart,
    SplitRecord,
    Transport,
)
from medisync.workspace.atomic import explained, sweep, write_bytes

AUDIT = "audit.json"
STATS = "dataset_stats.json"
SPLITS = "dataset_splits.json"
HISTORY = "training_history.json"
BASELINES = "baselines.json"
META = "model_meta.json"
LABEL_MAP = "label_map.json"
MODEL = "global_model.pth"
DISTRIBUTION = "feature_distribution.npz"
STATISTICS = "hospital_statistics.safetensors"
CARD = "MODEL_CARD.md"
PROGRESS = "progress.json"
RUN = "run.json"
START = "start.json"
CHECKPOINTS = "checkpoints"
LOCK = "lock"
LOG = "training.log"
NOTEBOOK = "notebook.ipynb"

TRANSIENT = (RUN, PROGRESS, START, LOCK)
"""Files that run.json does not vouch for: itself, and what serves a run only while it runs."""

OPTIONAL = re.compile(r"local_(model_\d+\.pth|distribution_\d+\.npz)")
"""Hospitals' own models: large, and only there to compare with, so a run from which they were removed is still complete."""

PUBLISHED = (MODEL, DISTRIBUTION, LABEL_MAP, CARD, META)
"""The files of models/, in the order of publishing: the metadata last, because its hashes vouch for the others. Before them
comes STATISTICS, where a run has it.
"""

SCHEMAS: Mapping[str, TypeAdapter[Any]] = {
    AUDIT: TypeAdapter(AuditRecord),
    STATS: TypeAdapter(dict[str, DatasetStats]),
    SPLITS: TypeAdapter(SplitRecord),
    HISTORY: TypeAdapter(list[HistoryEntry]),
    BASELINES: TypeAdapter(BaselineRecord),
    META: TypeAdapter(ModelMeta),
    LABEL_MAP: TypeAdapter(LabelMap),
    PROGRESS: TypeAdapter(Progress),
    RUN: TypeAdapter(RunRecord),
    START: TypeAdapter(RunStart),
}

_RUN_NAME = re.compile(r"run-(\d{3,})")


@dataclass(frozen=True)
class Workspace:
    """A root folder with dataset/, models/, artifacts/ and logs/."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def cache(self) -> Path:
        """Decoded images; safe to delete."""
        return self.root / ".cache"


@dataclass(frozen=True)
class Run:
    """A run that this process owns: its folder, its log folder and when it began (ISO 8601)."""

    folder: Path
    log_folder: Path
    started_at: str

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class RunListing:
    """One line of the list of runs. `problem` says why a run cannot be shown; it is empty for a readable one."""

    name: str
    folder: Path
    record: RunRecord | None
    problem: str


def local_files(place: int) -> tuple[str, str]:
    """The names of the two files of a hospital's own model, by its place in `BaselineRecord.models`."""
    return f"local_model_{place}.pth", f"local_distribution_{place}.npz"


def locate(root: str | os.PathLike[str] | None = None) -> Workspace:
    """The workspace at `root`, else at $MEDISYNC_WORKSPACE, else at the current folder."""
    return Workspace(Path(root or os.environ.get("MEDISYNC_WORKSPACE") or ".").resolve())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def age(moment: str) -> float:
    """Seconds since an ISO 8601 moment; infinite for anything else."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return math.inf


def read_log(workspace: Workspace, name: str) -> str:
    """The text of a log, by the name that run.json gives it; empty where there is none in the workspace."""
    file = workspace.logs / name / LOG
    if not name or file.resolve().parent.parent != workspace.logs.resolve() or not file.is_file():
        return ""
    with explained(f"read {name}/{LOG}"):
        return file.read_text(encoding="utf-8", errors="replace")


def allocate(workspace: Workspace) -> Run:
    """Makes the next artifacts/run-NNN and a logs/<timestamp>, both by exclusive create."""
    started_at = now()
    folder = _next_run_folder(workspace.artifacts)
    stamp = started_at[:19].replace(":", "-")
    log_folder = _exclusive_folder(workspace.logs, [stamp, *(f"{stamp}-{number}" for number in range(2, 1000))])
    return Run(folder, log_folder, started_at)


def reopen(workspace: Workspace, name: str) -> tuple[Run, RunStart]:
    """An interrupted run, and what it was begun with. Raises ArtifactError where there is nothing to go on with."""
    folder = workspace.artifacts / name
    if (folder / RUN).exists():
        raise ArtifactError(f"{name} is complete; there is nothing to resume")
    if not folder.is_dir():
        raise ArtifactError(f"there is no {name} in {workspace.artifacts.name}/")
    if not (folder / START).exists():
        raise ArtifactError(f"{name} was stopped before it had begun; there is nothing to resume, begin a new run")
    start: RunStart = read(folder, START)
    return Run(folder, workspace.logs / start.log, start.started_at), start


def _next_run_folder(artifacts: Path) -> Path:
    taken = [run_number(entry.name) for entry in artifacts.iterdir()] if artifacts.is_dir() else []
    first = max([number for number in taken if number is not None], default=0) + 1
    return _exclusive_folder(artifacts, [f"run-{number:03d}" for number in range(first, first + 1000)])


def run_number(name: str) -> int | None:
    """3 of "run-003"; None for any other name."""
    match = _RUN_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def _exclusive_folder(parent: Path, names: Sequence[str]) -> Path:
    """Another process may take a name between our look and our mkdir: then the next one is ours."""
    with explained(f"make a folder in {parent.name}/"):
        parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                (parent / name).mkdir()
            except FileExistsError:
                continue
            return parent / name
    raise ArtifactError(f"{parent.name}/: no free name for a new folder near {names[0]}")


def write(folder: Path, name: str, record: Any) -> None:
    """Validates `record` against the schema of `name` and writes it. Raises ArtifactError naming the field."""
    schema = SCHEMAS[name]
    try:
        plain = schema.dump_python(schema.validate_python(record), mode="json")
        text = json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False)
    except (ValidationError, ValueError) as error:
        raise ArtifactError(f"{name} would be invalid: {_first_problem(error)}") from error
    write_bytes(folder / name, text.encode())


def read(folder: Path, name: str) -> Any:
    """The record in `folder`/`name`. Raises ArtifactError with the reason if it is missing or damaged."""
    try:
        plain = json.loads(
            (folder / name).read_bytes(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
        return SCHEMAS[name].validate_python(plain)
    except FileNotFoundError:
        raise ArtifactError(f"{name} is missing") from None
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror or error}") from None
    except (ValidationError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is damaged: {_first_problem(error)}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"holds {constant}, which is no number")


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg'].removeprefix('Value error, ')}"
    return str(error).splitlines()[0][:200] or type(error).__name__


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commit(
    run: Run,
    *,
    synthetic: bool,
    configuration: Mapping[str, object],
    software: Mapping[str, str],
    transport: Transport = "in one process",
) -> RunRecord:
    """Writes run.json, which makes the run complete. Everything else of the run must be written before."""
    files = sorted(entry for entry in run.folder.iterdir() if entry.is_file() and entry.name not in TRANSIENT)
    record = RunRecord(
        status="completed",
        run=run.name,
        synthetic=synthetic,
        started_at=run.started_at,
        finished_at=now(),
        log=run.log_folder.name,
        configuration=dict(configuration),
        software=dict(software),
        transport=transport,
        files={entry.name: sha256(entry) for entry in files},
    )
    write(run.folder, RUN, record)
    forget_progress(run.folder)
    return record


def forget_progress(folder: Path) -> None:
    """Of a complete run: what served it only while it ran."""
    sweep(folder)
    (folder / START).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def list_runs(workspace: Workspace) -> list[RunListing]:
    """Every artifacts/run-NNN, newest first; one that is incomplete or damaged says why."""
    if not workspace.artifacts.is_dir():
        return []
    numbered = [(number, entry) for entry in workspace.artifacts.iterdir() if (number := run_number(entry.name))]
    folders = [entry for _, entry in sorted(numbered, reverse=True) if entry.is_dir()]
    return [_listing(folder) for folder in folders]


def _listing(folder: Path) -> RunListing:
    if not (folder / RUN).exists():
        return RunListing(folder.name, folder, None, _unfinished(folder))
    try:
        record: RunRecord = read(folder, RUN)
        for name, expected in record.files.items():
            _check_file(folder / name, expected)
    except ArtifactError as error:
        return RunListing(folder.name, folder, None, str(error))
    return RunListing(folder.name, folder, record, "")


def _unfinished(folder: Path) -> str:
    if not (folder / START).exists():
        return "not finished: it has no run.json"
    return f"not finished; if nothing works on it any more, `medisync train --resume {folder.name}` goes on with it"


def _check_file(file: Path, expected: str) -> None:
    """Weights are only looked for here: whoever loads them checks their hash."""
    if _was_removed(file):
        return
    if not file.is_file():
        raise ArtifactError(f"{file.name} is missing")
    if file.suffix != ".pth" and sha256(file) != expected:
        raise ArtifactError(f"{file.name} was changed after the run (its SHA-256 differs from run.json)")


def _was_removed(file: Path) -> bool:
    return OPTIONAL.fullmatch(file.name) is not None and not file.exists()


def verify(workspace: Workspace, run_name: str) -> None:
    """Reads a completed run back, and its model in models/. Raises ArtifactError naming what is not as it was written."""
    folder = workspace.artifacts / run_name
    record: RunRecord = read(folder, RUN)
    for name, expected in record.files.items():
        if not _was_removed(folder / name) and sha256(folder / name) != expected:
            raise ArtifactError(f"{name} of {run_name} is not the file that run.json vouches for")
    for name in SCHEMAS.keys() & record.files.keys():
        read(folder, name)
    meta: ModelMeta = read(workspace.models, META)
    described = (
        (MODEL, meta.model_sha256),
        (DISTRIBUTION, meta.distribution_sha256),
        (STATISTICS, meta.statistics_sha256),
    )
    for name, expected in described:
        if expected and expected != sha256(workspace.models / name):
            raise ArtifactError(f"models/{name} is not the one that models/{META} describes")
