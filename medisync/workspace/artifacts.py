"""The workspace and its runs: the names of all files, and what makes a run complete.

This is the only module that knows the names. A run is complete once it has a run.json, which lists every other file
with its SHA-256.
"""

import difflib
import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from medisync.errors import ArtifactError, ConfigError, DataError
from medisync.schemas import (
    AuditRecord,
    BaselineRecord,
    DatasetStats,
    ExternalEvaluation,
    HistoryEntry,
    LabelMap,
    MembershipRecord,
    ModelMeta,
    Progress,
    RunRecord,
    RunStart,
    SplitRecord,
    Transport,
)
from medisync.workspace import json_files
from medisync.workspace.atomic import explained, is_partial, sweep

AUDIT = "audit.json"
STATS = "dataset_stats.json"
SPLITS = "dataset_splits.json"
HISTORY = "training_history.json"
EXTERNAL = "external.json"
BASELINES = "baselines.json"
MEMBERSHIP = "membership.json"
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
"""Files that run.json does not list: itself, and those that a run needs only while it is in progress."""

OPTIONAL = re.compile(r"local_(model_\d+\.pth|distribution_\d+\.npz)")
"""Hospitals' own models. They are large and serve comparison only, so that a run stays complete without them."""

PUBLISHED = (MODEL, DISTRIBUTION, LABEL_MAP, CARD, META)
"""Files of models/ in the order of publishing: the metadata comes last, because it holds the hashes of the others.

STATISTICS, if the run has it, comes before them.
"""

SCHEMAS: Mapping[str, TypeAdapter[Any]] = {
    AUDIT: TypeAdapter(AuditRecord),
    STATS: TypeAdapter(dict[str, DatasetStats]),
    SPLITS: TypeAdapter(SplitRecord),
    HISTORY: TypeAdapter(list[HistoryEntry]),
    EXTERNAL: TypeAdapter(dict[str, ExternalEvaluation]),
    BASELINES: TypeAdapter(BaselineRecord),
    MEMBERSHIP: TypeAdapter(MembershipRecord),
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
        """Folder of decoded images; safe to delete."""
        return self.root / ".cache"


@dataclass(frozen=True)
class Run:
    """A run that this process owns: its folder, its log folder and its start (ISO 8601)."""

    folder: Path
    log_folder: Path
    started_at: str

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class RunListing:
    """One entry of the list of runs; `problem` says why a run cannot be shown, and is empty for a readable run.

    A run is called what its folder is called; `note` says so where its record has another name.
    """

    name: str
    folder: Path
    record: RunRecord | None
    problem: str
    note: str = ""


def local_files(index: int) -> tuple[str, str]:
    """Returns the names of the two files of a hospital's own model, by its index in `BaselineRecord.models`."""
    return f"local_model_{index}.pth", f"local_distribution_{index}.npz"


def locate(root: str | os.PathLike[str] | None = None) -> Workspace:
    """Returns the workspace at `root`, else at $MEDISYNC_WORKSPACE, else in the current folder."""
    return Workspace(Path(root or os.environ.get("MEDISYNC_WORKSPACE") or ".").resolve())


def locate_existing(root: str | os.PathLike[str] | None = None) -> Workspace:
    """Returns the workspace that `locate` finds. Raises ConfigError if there is no such folder."""
    workspace = locate(root)
    if not workspace.root.is_dir():
        named = "--workspace" if root else "MEDISYNC_WORKSPACE"
        raise ConfigError(f"{named}: there is no folder {workspace.root}{_similar(workspace.root)}")
    return workspace


def _similar(missing: Path) -> str:
    """Returns a question that names a folder which may have been meant; empty if none beside `missing` looks like it."""
    parent = missing.parent
    names = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f"; did you mean {parent / close[0]}?" if close else ""


def require_dataset(workspace: Workspace) -> None:
    """Raises DataError if the workspace has no dataset/: a run begun in the wrong folder would leave files there."""
    if not workspace.dataset.is_dir():
        raise DataError(
            f"there is no folder dataset/ in {workspace.root}, so nothing was begun; start in the folder that holds"
            " dataset/, or set MEDISYNC_WORKSPACE or --workspace to it"
        )


def run_folder(workspace: Workspace, name: str) -> Path:
    """Returns the folder of a run. Raises ArtifactError, naming the runs that there are, if there is no such run."""
    names = [run.name for run in _folders(workspace)]
    if name not in names:
        raise ArtifactError(f"{name}: no such run (there are: {', '.join(names) or 'none'})")
    return workspace.artifacts / name


def now() -> str:
    """Returns the current time in UTC (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def age(moment: str) -> float:
    """Returns the seconds since an ISO 8601 time; infinity for any other text."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return math.inf


def read_log(workspace: Workspace, name: str) -> str:
    """Returns the text of a log, by its name in run.json; empty if the workspace has no such log."""
    file = workspace.logs / name / LOG
    if not name or file.resolve().parent.parent != workspace.logs.resolve() or not file.is_file():
        return ""
    with explained(f"read {name}/{LOG}"):
        return file.read_text(encoding="utf-8", errors="replace")


def allocate(workspace: Workspace) -> Run:
    """Creates the next artifacts/run-NNN and a logs/<timestamp>, both exclusively."""
    started_at = now()
    folder = _next_run_folder(workspace.artifacts)
    stamp = started_at[:19].replace(":", "-")
    log_folder = _exclusive_folder(workspace.logs, [stamp, *(f"{stamp}-{number}" for number in range(2, 1000))])
    return Run(folder, log_folder, started_at)


def reopen(workspace: Workspace, name: str) -> tuple[Run, RunStart]:
    """Returns an interrupted run and its start record. Raises ArtifactError if there is nothing to resume."""
    folder = run_folder(workspace, name)
    if (folder / RUN).exists():
        raise ArtifactError(f"{name} is complete; there is nothing to resume")
    if not (folder / START).exists():
        raise ArtifactError(f"{name} stopped before training began; there is nothing to resume, start a new run")
    start: RunStart = read(folder, START)
    return Run(folder, workspace.logs / start.log, start.started_at), start


def _next_run_folder(artifacts: Path) -> Path:
    taken = [run_number(entry.name) for entry in artifacts.iterdir()] if artifacts.is_dir() else []
    first = max([number for number in taken if number is not None], default=0) + 1
    return _exclusive_folder(artifacts, [f"run-{number:03d}" for number in range(first, first + 1000)])


def run_number(name: str) -> int | None:
    """Returns 3 for "run-003", and None for a name that is not a run's."""
    match = _RUN_NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def _exclusive_folder(parent: Path, names: Sequence[str]) -> Path:
    """Creates a folder under the first free name; another process may take a name at any moment."""
    with explained(f"create a folder in {parent.name}/"):
        parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                (parent / name).mkdir()
            except FileExistsError:
                continue
            return parent / name
    raise ArtifactError(f"no free name for a new folder in {parent.name}/, from {names[0]} to {names[-1]}")


def write(folder: Path, name: str, record: Any) -> None:
    """Validates `record` against the schema of `name` and writes it. Raises ArtifactError naming the field."""
    json_files.write(folder / name, SCHEMAS[name], record)


def read(folder: Path, name: str) -> Any:
    """Returns the record in `folder`/`name`. Raises ArtifactError with the reason if it is missing or damaged."""
    return json_files.read(folder / name, SCHEMAS[name])


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
    """Writes run.json, which makes the run complete; all its other files must have been written before."""
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
    """Removes the files of a complete run that it needed only while it was in progress."""
    sweep(folder)
    (folder / START).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def list_runs(workspace: Workspace) -> list[RunListing]:
    """Lists every artifacts/run-NNN, newest first, then complete runs in folders with other names, such as a copy's.

    Incomplete and damaged runs are listed with the reason.
    """
    return [_listing(folder) for folder in _folders(workspace)]


def _folders(workspace: Workspace) -> list[Path]:
    entries = (
        [entry for entry in workspace.artifacts.iterdir() if entry.is_dir()] if workspace.artifacts.is_dir() else []
    )
    numbered = [(number, entry) for entry in entries if (number := run_number(entry.name))]
    others = [
        entry for entry in entries if not run_number(entry.name) and (entry / RUN).exists() and not is_partial(entry)
    ]
    return [entry for _, entry in sorted(numbered, reverse=True)] + sorted(others)


def _listing(folder: Path) -> RunListing:
    if not (folder / RUN).exists():
        return RunListing(folder.name, folder, None, _unfinished(folder))
    try:
        record: RunRecord = read(folder, RUN)
        for name, expected in record.files.items():
            _check_file(folder / name, expected)
    except ArtifactError as error:
        return RunListing(folder.name, folder, None, str(error))
    return RunListing(folder.name, folder, named_by_folder(folder, record), "", _other_name(folder, record.run))


Named = TypeVar("Named", RunRecord, ModelMeta)


def named_by_folder(folder: Path, record: Named) -> Named:
    """Returns a run's record or metadata with the name of its folder: in a copy, both still say the original's name."""
    return record if record.run == folder.name else record.model_copy(update={"run": folder.name})


def _other_name(folder: Path, name: str) -> str:
    """Returns `run-007 says it is run-001: a copy`; empty if the record has the folder's name."""
    if name == folder.name:
        return ""
    return f"{folder.name} says it is {name}: {'a copy' if (folder.parent / name).is_dir() else 'it was renamed'}"


def _unfinished(folder: Path) -> str:
    if not (folder / START).exists():
        return "not finished: it has no run.json"
    return f"not finished; if no process is working on it, resume it with `medisync train --resume {folder.name}`"


def _check_file(file: Path, expected: str) -> None:
    """Raises ArtifactError if a file is missing or changed; the hash of weights is checked when they are loaded."""
    if _was_removed(file):
        return
    if not file.is_file():
        raise ArtifactError(f"{file.name} is missing")
    if file.suffix != ".pth" and sha256(file) != expected:
        raise ArtifactError(f"{file.name} was changed after the run (its SHA-256 differs from run.json)")


def _was_removed(file: Path) -> bool:
    return OPTIONAL.fullmatch(file.name) is not None and not file.exists()


def verify(workspace: Workspace, run_name: str) -> None:
    """Reads back a completed run and its model in models/. Raises ArtifactError naming a file that differs."""
    folder = workspace.artifacts / run_name
    record: RunRecord = read(folder, RUN)
    for name, expected in record.files.items():
        if not _was_removed(folder / name) and sha256(folder / name) != expected:
            raise ArtifactError(f"{name} of {run_name} is not the file that run.json lists (its SHA-256 differs)")
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
            raise ArtifactError(f"models/{name} is not the file that models/{META} describes (its SHA-256 differs)")
