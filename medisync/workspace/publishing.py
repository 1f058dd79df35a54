"""Publishes the model of a completed run to models/, and removes what killed processes left in the workspace."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medisync.errors import ArtifactError
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace
from medisync.workspace.atomic import PARTIAL, explained, replace_files, sweep


def publish(workspace: Workspace, run_name: str) -> None:
    """Copies a completed run's model to models/, all files in one step, unless a newer run is already published."""
    folder = workspace.artifacts / run_name
    artifacts.read(folder, artifacts.RUN)
    with _publishing_lock(workspace):
        published = _published_number(workspace)
        if published is not None and published > (artifacts.run_number(run_name) or 0):
            return
        with explained(f"read {run_name}"):
            names = (artifacts.STATISTICS, *artifacts.PUBLISHED)
            files = {name: (folder / name).read_bytes() for name in names if _belongs(folder, name)}
        replace_files(workspace.models, files, without={artifacts.STATISTICS})


def _belongs(folder: Path, name: str) -> bool:
    """Required files always belong, so that a missing one is reported; optional files belong if they exist."""
    return name in artifacts.PUBLISHED or (folder / name).exists()


def tidy(workspace: Workspace) -> None:
    """Removes what killed processes left: partial files, and the checkpoints of complete runs."""
    with _publishing_lock(workspace):
        pass
    for entry in workspace.artifacts.iterdir() if workspace.artifacts.is_dir() else ():
        if artifacts.run_number(entry.name):
            artifacts.forget_progress(entry) if (entry / artifacts.RUN).exists() else _sweep_unfinished(entry)
    _sweep_cache(workspace.cache)


@contextmanager
def _publishing_lock(workspace: Workspace) -> Iterator[None]:
    """Lets one process publish at a time, and first removes what a killed one left behind."""
    with explained(f"write {workspace.models.name}/"):
        workspace.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace.cache / "publishing.lock"):
            sweep(workspace.root)
            sweep(workspace.models)
            yield


def _sweep_unfinished(folder: Path) -> None:
    """Removes partial files of an unfinished run, unless a process is working on it. Resuming does not need them."""
    if not (folder / artifacts.LOCK).exists():
        return
    with suppress(Timeout), FileLock(folder / artifacts.LOCK, timeout=0):
        sweep(folder)
        sweep(folder / artifacts.CHECKPOINTS)


def _sweep_cache(cache: Path) -> None:
    """Removes partial caches whose process, which is part of their name, no longer exists."""
    for entry in cache.glob(f"*{PARTIAL}") if cache.is_dir() else ():
        if not (Path("/proc") / entry.name.split(".")[-2]).exists():
            entry.unlink(missing_ok=True)


def _published_number(workspace: Workspace) -> int | None:
    try:
        return artifacts.run_number(artifacts.read(workspace.models, artifacts.META).run)
    except ArtifactError:
        return None
