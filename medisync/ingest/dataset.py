"""The dataset that ingest writes: class folders of PNG slices, patients.csv, and a mark that tells with which key it was made."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from medisync.data import patient_table
from medisync.data.patient_list import PATIENTS
from medisync.errors import ConfigError, DataError
from medisync.workspace.atomic import extended_folder, is_partial, write_bytes

MARK = ".ingest"
"""Hidden file with the name of the key, under which all patients of the dataset have their pseudonyms."""


class EmptyError(DataError):
    """There is no slice to write."""


@dataclass(frozen=True)
class Member:
    """A slice of the dataset. Its name says the sequence and the image's pseudonym."""

    label: str
    sequence: str
    image: str
    patient: str

    @property
    def path(self) -> str:
        return f"{self.label}/{self.sequence}-{self.image}.png"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process write a dataset at a time. Raises ConfigError if another does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"another process writes {folder.name}/; wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()


def members(folder: Path, key_check: str) -> dict[str, Member]:
    """Returns the slices that an earlier ingest wrote, by the image's pseudonym; none if there is no dataset yet.

    Raises ConfigError if the folder holds something else, or was made with another key.
    """
    if not folder.exists() or (folder.is_dir() and not any(not is_partial(entry) for entry in folder.iterdir())):
        return {}
    if not (folder / MARK).is_file():
        raise ConfigError(f"{folder} exists and was not made by `medisync ingest`; choose another folder")
    if (folder / MARK).read_text(encoding="ascii", errors="replace").strip() != key_check:
        raise ConfigError(
            f"{folder} was made with another secret key, under which its patients have other names; "
            "give that key with --secret, or choose another folder"
        )
    found = [_member(path, patient) for path, patient in _patients(folder).items()]
    return {member.image: member for member in found if (folder / member.path).is_file()}


def _patients(folder: Path) -> dict[str, str]:
    """Returns the patient of each listed image, also of those that a person added."""
    if not (folder / PATIENTS).exists():
        return {}
    return {row.path: row.patient for row in patient_table.read(folder / PATIENTS).rows}


def _member(path: str, patient: str) -> Member:
    label, _, name = path.rpartition("/")
    sequence, _, image = name.removesuffix(".png").partition("-")
    return Member(label, sequence, image, patient)


class Staging:
    """A dataset that is being written, of which nothing is in its place yet."""

    def __init__(self, folder: Path, key_check: str) -> None:
        self._folder, self._key_check = folder, key_check
        self._patients = _patients(folder)

    def add(self, member: Member, png: bytes) -> None:
        write_bytes(self._folder / member.path, png)
        self._patients[member.path] = member.patient

    def finish(self) -> None:
        """Writes what holds for the whole. Raises EmptyError if there is no slice at all."""
        if not self._patients:
            raise EmptyError("no slice to write")
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([patient_table.COLUMNS, *sorted(self._patients.items())])
        write_bytes(self._folder / PATIENTS, table.getvalue().encode())
        write_bytes(self._folder / MARK, f"{self._key_check}\n".encode())


@contextmanager
def written(folder: Path, key_check: str) -> Iterator[Staging]:
    """Yields the dataset with what it holds already; the folder appears, or changes, once the block has ended."""
    with extended_folder(folder) as place:
        staging = Staging(place, key_check)
        yield staging
        staging.finish()
