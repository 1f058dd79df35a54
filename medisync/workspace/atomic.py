"""Atomic writes: a file or folder appears whole or not at all, whatever happens to the process."""

import ctypes
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from medisync.errors import ArtifactError, ConfigError

PARTIAL = ".partial"
"""Suffix of files and folders that are incomplete or no longer needed; their names also begin with a dot."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Constants of linux/fcntl.h and linux/fs.h."""


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turns an OSError, such as a full disk or a read-only folder, into an ArtifactError of one sentence."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"could not {action}: {error.strerror or error}") from error


def write_bytes(target: Path, data: bytes) -> None:
    """Replaces `target` atomically: after a crash it is either the old file or the new one."""
    with explained(f"write {target.parent.name}/{target.name}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)


def replace_files(folder: Path, files: Mapping[str, bytes], *, without: Set[str] = frozenset()) -> None:
    """Replaces several files of `folder` in one step: no process ever sees some old and some new.

    Other files stay, except those named in `without`. Where the system cannot exchange two folders (not Linux, or a
    mounted folder), files are replaced one after the other in the given order.
    """
    with explained(f"write {folder.name}/"):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent))
        try:
            staging.chmod(folder.stat().st_mode)
            for entry in folder.iterdir():
                if entry.name not in {*files, *without} and not is_partial(entry):
                    _copy(entry, staging / entry.name)
            for name, data in files.items():
                write_bytes(staging / name, data)
            if not _exchange(staging, folder):
                for name, data in files.items():
                    write_bytes(folder / name, data)
                for name in without - files.keys():
                    (folder / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a staging folder that becomes `folder` once the block has ended; if it fails, nothing is left of it.

    What a killed process left of an earlier try is removed first. Raises ConfigError if `folder` holds anything.
    """
    folder = folder.resolve()
    with explained(f"make {folder.name}/"):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(f"{folder} already exists and is not replaced; remove it, or choose another folder")
        staging = _staging(folder)
        try:
            staging.chmod(folder.stat().st_mode if folder.is_dir() else 0o755)
            yield staging
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def extended_folder(folder: Path) -> Iterator[Path]:
    """Yields a staging folder that begins with what `folder` holds, and takes its place once the block has ended.

    If it fails, `folder` stays as it was. Files in the staging folder may be links to those of `folder`: replace them, and
    write into none. Where the system cannot exchange two folders (not Linux, or a mounted folder), there is none of this name
    for a moment. No other process may extend it at the same time.
    """
    folder = folder.resolve()
    if not folder.is_dir() or not any(folder.iterdir()):
        with new_folder(folder) as staging:
            yield staging
        return
    with explained(f"write {folder.name}/"):
        staging = _staging(folder)
        try:
            shutil.copytree(folder, staging, symlinks=True, copy_function=_link, dirs_exist_ok=True)
            yield staging
            if not _exchange(staging, folder):
                _replace_folder(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _staging(folder: Path) -> Path:
    """Makes an empty folder beside `folder`, and removes what a killed process left of an earlier one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep_for(folder)
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent))


def _link(source: str, target: str) -> None:
    """Makes a hard link, or a copy where the file system has none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _replace_folder(staging: Path, folder: Path) -> None:
    """Puts `staging` in the place of `folder`, whose content is then in `staging`'s; puts it back if that fails."""
    before = staging.with_name(f"{folder.name}.before")
    folder.rename(before)
    try:
        staging.rename(folder)
    except OSError:
        before.rename(folder)
        raise
    before.rename(staging)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step with Linux's renameat2(2); returns False where that is not possible."""
    if sys.platform != "linux" or other.is_symlink():
        return False
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return swap is not None and swap(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def is_partial(entry: Path) -> bool:
    return entry.name.startswith(".") and entry.name.endswith(PARTIAL)


def sweep_for(target: Path) -> None:
    """Removes what killed processes left of `target`, a file or a folder. No other process may be writing it."""
    for entry in target.parent.glob(f".{glob.escape(target.name)}.*{PARTIAL}"):
        _remove(entry)


def sweep(folder: Path) -> None:
    """Removes partial files that a killed process left in `folder`. No other process may be writing to it."""
    with suppress(OSError):  # partial files that cannot be removed do no harm
        for entry in [entry for entry in folder.iterdir() if is_partial(entry)]:
            _remove(entry)


def _remove(entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
