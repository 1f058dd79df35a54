"""The lock of a run: one process works on a run at a time, and a process works on one run."""

from filelock import FileLock, Timeout

from medisync.errors import ArtifactError
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Run

TIDYING_SECONDS = 1.0
"""Seconds to wait for a lock: tidying holds one for a moment to find out whether a process works on the run."""

_held: list[FileLock] = []
"""The lock of the run that this process works on."""


def claim(run: Run) -> None:
    """Makes `run` this process's own, and no other. Raises ArtifactError if another process works on it."""
    let_go()
    lock = FileLock(run.folder / artifacts.LOCK, timeout=TIDYING_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(f"another process works on {run.name}; wait for it, or stop it first") from None
    _held.append(lock)


def release(run: Run) -> None:
    """Ends the claim on a completed run and removes its lock."""
    let_go()
    (run.folder / artifacts.LOCK).unlink(missing_ok=True)


def let_go() -> None:
    """Ends this process's claim; the run can be resumed."""
    while _held:
        _held.pop().release()
