"""Lists the images in a hospital's dataset folder by suffix, with the label that their folder stands for."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medisync.config import Hospital, normalise_folder
from medisync.data.file_tree import LeftOut, walk, why_not_a_file
from medisync.data.formats import IMAGE_SUFFIXES
from medisync.errors import DataError
from medisync.schemas import FolderAudit, Label

PATIENTS = "patients.csv"
"""Optional, in the hospital's folder: columns `path` (relative to that folder) and `patient`."""


@dataclass(frozen=True)
class File:
    """A file with an image's suffix; `path` is relative to the dataset folder of the workspace."""

    path: str
    label: Label | None
    """None if no folder above the file is in the class map."""
    patient: str | None


@dataclass(frozen=True)
class HospitalFiles:
    """The contents of one hospital's folder; none of its files has been opened."""

    files: list[File]
    folders: list[FolderAudit]
    skipped: Mapping[str, int]
    """Number of entries that are not images, by reason."""
    notes: list[str]


def discover(hospital: Hospital, dataset: Path) -> HospitalFiles:
    """Lists everything below the hospital's folder, in the order of names; a missing folder is a note, not an error.

    The label of a file is that of the innermost folder which is in the class map. Raises DataError if `patients.csv`
    cannot be read: without it, a patient could get into two splits.
    """
    root = dataset / hospital.path
    if not root.is_dir():
        return HospitalFiles([], [], {}, [f"the dataset folder has no folder {hospital.path!r}"])
    left_out = LeftOut()
    paths: list[PurePosixPath] = []
    folders: dict[str, FolderAudit] = {}
    for folder, names in walk(root, left_out):
        images = [folder / name for name in names if _is_image(root / folder / name, root, left_out)]
        paths += images
        _count(folders, folder, len(images), hospital.class_map)
    patients, notes = _read_patients(root, paths)
    files = [
        File(str(hospital.path / path), class_folder(path.parent, hospital.class_map)[1], patients.get(str(path)))
        for path in paths
    ]
    listed = sorted(folders.values(), key=lambda folder: folder.name)
    return HospitalFiles(files, listed, left_out.counts, [*_folder_notes(listed, hospital.class_map), *notes])


def _is_image(file: Path, root: Path, left_out: LeftOut) -> bool:
    if reason := _why_not_an_image(file):
        left_out.add(reason, str(file.relative_to(root)))
    return file.name != PATIENTS and not reason


def _why_not_an_image(file: Path) -> str:
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        return "name that is not valid UTF-8"
    if reason := why_not_a_file(file):
        return reason
    if file.suffix.lower() in IMAGE_SUFFIXES or file.name == PATIENTS:
        return ""
    return f"not an image ({file.suffix.lower() or 'no suffix'})"


def class_folder(folder: PurePosixPath, class_map: Mapping[str, Label]) -> tuple[PurePosixPath, Label | None]:
    """Returns the innermost folder, from `folder` upwards, that is in the class map; else `folder` and no label."""
    for candidate in (folder, *folder.parents):
        if label := class_map.get(normalise_folder(candidate.name)):
            return candidate, label
    return folder, None


def _count(folders: dict[str, FolderAudit], folder: PurePosixPath, images: int, class_map: Mapping[str, Label]) -> None:
    """Adds the images to their class folder; a folder without images is listed only if it is a class folder."""
    owner, label = class_folder(folder, class_map)
    if images or label:
        before = folders[str(owner)].images if str(owner) in folders else 0
        folders[str(owner)] = FolderAudit(name=str(owner), label=label, images=before + images)


def _folder_notes(folders: list[FolderAudit], class_map: Mapping[str, Label]) -> list[str]:
    present = {normalise_folder(PurePosixPath(folder.name).name) for folder in folders if folder.label}
    notes = [f"no folder {name!r} for the class {label}" for name, label in class_map.items() if name not in present]
    notes += [f"folder {folder.name!r} holds no image" for folder in folders if not folder.images]
    for label in sorted({folder.label for folder in folders if folder.label}):
        names = [repr(folder.name) for folder in folders if folder.label == label]
        if len(names) > 1:
            notes.append(f"folders {' and '.join(names)} are merged as {label}")
    unresolved = [folder for folder in folders if not folder.label]
    notes += [
        f"folder {folder.name!r} is not in the class map: {folder.images} images left out" for folder in unresolved
    ]
    return notes


def _read_patients(root: Path, paths: list[PurePosixPath]) -> tuple[dict[str, str], list[str]]:
    """Returns the patient of each path relative to `root`, and notes on the list."""
    file = root / PATIENTS
    if not file.exists():
        return {}, []
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: cannot be read ({error}); expected UTF-8 text with the columns path,patient"
        ) from None
    if rows and not {"path", "patient"} <= rows[0].keys():
        raise DataError(f"{file}: expected the columns path,patient, found {','.join(map(str, rows[0]))}")
    patients = {
        str(PurePosixPath(row["path"].strip())): row["patient"].strip()
        for row in rows
        if row["path"] and row["patient"]
    }
    return patients, _patient_notes(patients, {str(path) for path in paths})


def _patient_notes(patients: Mapping[str, str], paths: set[str]) -> list[str]:
    notes = []
    if unlisted := len(paths - patients.keys()):
        notes.append(f"{unlisted} images are not in {PATIENTS}; each counts as a separate patient")
    if absent := len(patients.keys() - paths):
        notes.append(f"{absent} rows of {PATIENTS} name an image that does not exist")
    return notes
