"""Lists the images in a hospital's dataset folder, by suffix or content, with the label that their folder stands for."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from medisync.config import ExternalDataset, Hospital, normalise_folder
from medisync.data import class_names, patient_list
from medisync.data.patient_list import PATIENTS
from medisync.imaging.file_tree import LeftOut, counted, walk, why_not_a_file
from medisync.imaging.formats import (
    HEAD_BYTES,
    claims_to_be_a_scan,
    decompressed,
    is_dicom,
    is_dicomdir,
    is_nifti,
    is_picture,
)
from medisync.schemas import ExternalLabel, FolderAudit

Meaning = TypeVar("Meaning")
"""What a class map says of a folder: a label, as a rule."""

NAMED_FOLDERS = 8
"""Folders in no class map that are named one by one."""


@dataclass(frozen=True)
class File:
    """A file that is an image, or claims to be one; `path` is relative to the dataset folder of the workspace."""

    path: str
    label: ExternalLabel | None
    """None if no folder above the file is in the class map."""
    patient: str | None


@dataclass(frozen=True)
class HospitalFiles:
    """The contents of the folder of a hospital, or of an external dataset; of its files only the first bytes have been read, where a suffix says nothing."""

    files: list[File]
    folders: list[FolderAudit]
    skipped: Mapping[str, int]
    """Number of entries that are not images, by reason."""
    notes: list[str]
    warnings: list[str]
    """Notes on what is left out, and on what is not known about patients."""


def discover(hospital: Hospital | ExternalDataset, dataset: Path) -> HospitalFiles:
    """Lists everything below the hospital's folder, in the order of names; a missing folder is a warning, not an error.

    The label of a file is that of the innermost folder which is in the class map. Raises DataError if `patients.csv`
    cannot be read or fits no image: without it, a patient could get into two splits.
    """
    place = locate(dataset, hospital.path)
    root = dataset / place
    if not root.is_dir():
        return HospitalFiles([], [], {}, [], [f"the dataset folder has no folder {hospital.path!r}"])
    left_out = LeftOut()
    paths: list[PurePosixPath] = []
    folders: dict[str, FolderAudit] = {}
    for folder, names in walk(root, left_out):
        images = [folder / name for name in names if _is_image(root / folder / name, root, left_out)]
        paths += images
        _count(folders, folder, len(images), hospital.class_map)
    above = root.parents[: len(place.parts)]
    patients = patient_list.read(root, above, [str(path) for path in paths], hospital.class_map.keys())
    files = [
        File(
            str(place / path),
            class_folder(path.parent, hospital.class_map)[1],
            patients.patients.get(str(path)),
        )
        for path in paths
    ]
    listed = sorted(folders.values(), key=lambda folder: folder.name)
    return HospitalFiles(
        files,
        listed,
        left_out.counts,
        [*_folder_notes(listed, hospital.class_map), *patients.notes],
        [*_unresolved(listed, hospital.class_map), *patients.warnings],
    )


def locate(dataset: Path, path: str) -> PurePosixPath:
    """Returns the path as it is spelt on disk: macOS may store a name in another Unicode form than a keyboard types."""
    found = PurePosixPath()
    for part in PurePosixPath(path).parts:
        found /= part if (dataset / found / part).exists() else _in_another_form(dataset / found, part)
    return found


def _in_another_form(folder: Path, name: str) -> str:
    wanted = unicodedata.normalize("NFC", name)
    try:
        names = sorted(entry.name for entry in folder.iterdir())
        return next((each for each in names if unicodedata.normalize("NFC", each) == wanted), name)
    except OSError:
        return name


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
    if file.name == PATIENTS or claims_to_be_a_scan(file.name):
        return ""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return f"unreadable file: {error.strerror}"
    if is_dicomdir(head):
        return "DICOMDIR"
    if is_picture(head) or is_dicom(head) or is_nifti(decompressed(head)):
        return ""
    return f"not an image ({file.suffix.lower() or 'no suffix'})"


def class_folder(folder: PurePosixPath, class_map: Mapping[str, Meaning]) -> tuple[PurePosixPath, Meaning | None]:
    """Returns the innermost folder, from `folder` upwards, that is in the class map; else `folder` and no label."""
    for candidate in (folder, *folder.parents):
        if label := class_map.get(normalise_folder(candidate.name)):
            return candidate, label
    return folder, None


def _count(
    folders: dict[str, FolderAudit], folder: PurePosixPath, images: int, class_map: Mapping[str, ExternalLabel]
) -> None:
    """Adds the images to their class folder; a folder without images is listed only if it is a class folder."""
    owner, label = class_folder(folder, class_map)
    if images or label:
        before = folders[str(owner)].images if str(owner) in folders else 0
        folders[str(owner)] = FolderAudit(name=str(owner), label=label, images=before + images)


def _folder_notes(folders: list[FolderAudit], class_map: Mapping[str, ExternalLabel]) -> list[str]:
    present = {normalise_folder(PurePosixPath(folder.name).name) for folder in folders if folder.label}
    notes = [f"no folder {name!r} for the class {label}" for name, label in class_map.items() if name not in present]
    notes += [f"folder {folder.name!r} holds no image" for folder in folders if not folder.images]
    for label in sorted({folder.label for folder in folders if folder.label}):
        names = [repr(folder.name) for folder in folders if folder.label == label]
        if len(names) > 1:
            notes.append(f"folders {' and '.join(names)} are merged as {label}")
    return notes


def _unresolved(folders: list[FolderAudit], class_map: Mapping[str, ExternalLabel]) -> list[str]:
    """Returns a warning for each folder whose images are left out; of many, for the largest."""
    left_out = sorted((folder for folder in folders if not folder.label), key=lambda folder: -folder.images)
    warnings = [_unresolved_folder(folder, class_map) for folder in left_out[:NAMED_FOLDERS]]
    if rest := left_out[NAMED_FOLDERS:]:
        images = sum(folder.images for folder in rest)
        warnings.append(f"{len(rest):,} more folders are not in the class map: {counted(images, 'image')} left out")
    return warnings


def _unresolved_folder(folder: FolderAudit, class_map: Mapping[str, ExternalLabel]) -> str:
    if folder.name == ".":
        return f"{counted(folder.images, 'image')} left out: directly in the dataset's folder, not in a class folder"
    hint = class_names.suggest(PurePosixPath(folder.name).name, class_map)
    said = f"folder {folder.name!r} is not in the class map: {counted(folder.images, 'image')} left out"
    return f"{said}; {hint}" if hint else said
