"""Finds the patient of each image: patients.csv, matched to the files without guessing.

A list may be written on another machine, so its paths may differ from the files' in separators, Unicode form, case, suffix and
in the folders in front. A row is used only if exactly one file fits it.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from medisync.config import normalise_folder
from medisync.data import patient_table
from medisync.data.patient_table import Row
from medisync.errors import DataError
from medisync.imaging.file_tree import counted

PATIENTS = "patients.csv"
"""Optional, in the hospital's folder: columns `path` (relative to that folder) and `patient`."""

SUFFIX = re.compile(r"(\.nii\.gz|\.[a-z][a-z0-9]{1,4})$")
"""What may differ between the name in a list and the file's, in lower case."""

TABLE_SUFFIXES = {"csv", "tsv", "txt", "xls", "xlsx", "ods", "numbers", "json"}

Parts = tuple[str, ...]


@dataclass(frozen=True)
class PatientList:
    """The patients of a hospital's images."""

    patients: Mapping[str, str]
    """Patient of each file that has one, by the file's path relative to the hospital's folder."""
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class _Match:
    """A row with the files that fit it best."""

    row: Row
    files: Sequence[str]
    prefix: Parts
    """Leading folders of the row's path that were ignored."""
    rank: tuple[bool, int, bool]
    """How much had to be ignored: folders in front, spelling, folders that the row lacks. The lowest is the same path."""

    @property
    def is_unique(self) -> bool:
        return len(self.files) == 1


def read(root: Path, above: Sequence[Path], files: Sequence[str], class_folders: Set[str]) -> PatientList:
    """Reads the list in a hospital's folder; without one, no image has a patient.

    `files` are the images below `root`, relative to it, `above` the folders between it and the workspace, and
    `class_folders` the normalised names in the class map. Raises DataError if the list cannot be read, contradicts itself,
    or fits none of the images.
    """
    file = root / PATIENTS
    if not os.path.lexists(file):
        return PatientList({}, warnings=list(_misplaced(root, above)))
    table, indices = patient_table.read(file), _indices(files)
    matches = _plausible([_find(row, indices) for row in table.rows], root, class_folders)
    patients, unsure = _assign(matches, file)
    if files and not patients:
        raise DataError(_nothing_fits(file, table.rows, files[0]))
    notes = [*table.notes, *_spelling_notes(matches, patients)]
    absent = [match.row for match in matches if not match.files]
    return PatientList(patients, notes, list(_warnings(table, absent, unsure)))


def _parts(path: str) -> Parts:
    """Returns the folders and the name of a path of any system, in one Unicode form."""
    plain = posixpath.normpath(unicodedata.normalize("NFC", path).replace("\\", "/"))
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _same(parts: Parts) -> Parts:
    return parts


def _folded(parts: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", part.casefold()) for part in parts)


def _without_suffix(parts: Parts) -> Parts:
    *folders, name = _folded(parts)
    return (*folders, SUFFIX.sub("", name) or name)


SPELLINGS = (_same, _folded, _without_suffix)
"""What is compared, strictest first."""

Index = Mapping[Parts, Sequence[tuple[str, int]]]
"""Files, with the number of parts of their paths, by every end of their paths."""


def _indices(files: Sequence[str]) -> Sequence[Index]:
    indices: list[Index] = []
    for spelling in SPELLINGS:
        index: dict[Parts, list[tuple[str, int]]] = defaultdict(list)
        for file in files:
            parts = spelling(_parts(file))
            for start in range(len(parts)):
                index[parts[start:]].append((file, len(parts)))
        indices.append(index)
    return indices


def _find(row: Row, indices: Sequence[Index]) -> _Match:
    """Returns the files whose paths end like the row's, with as few folders ignored in front of it as possible."""
    parts = _parts(row.path)
    for start in range(len(parts)):
        for strictness, (spelling, index) in enumerate(zip(SPELLINGS, indices, strict=True)):
            end = spelling(parts[start:])
            if found := index.get(end):
                whole = [file for file, length in found if length == len(end)]
                return _Match(
                    row, whole or [file for file, _ in found], parts[:start], (start > 0, strictness, not whole)
                )
    return _Match(row, (), (), (True, len(SPELLINGS), True))


def _plausible(matches: Sequence[_Match], root: Path, class_folders: Set[str]) -> list[_Match]:
    """Drops the files of rows that fit only if folders are ignored which the whole list does not begin with.

    A list that was written elsewhere begins every path with the same folders, or with the hospital's own. A row of
    `Testing/` among rows of `Training/` belongs to another file, though one of the same name may be here.
    """
    home = _folded(_parts(root.name))
    foreign = {_folded(match.prefix) for match in matches if match.prefix and _folded(match.prefix[-1:]) != home}
    is_one_place = len(foreign) == 1 and all(match.prefix for match in matches if match.files)

    def is_plausible(match: _Match) -> bool:
        if not match.prefix or _folded(match.prefix[-1:]) == home:
            return True
        last = match.prefix[-1]
        named_here = normalise_folder(last) in class_folders or (root / last).exists() or (root.parent / last).exists()
        return is_one_place and not named_here

    return [match if is_plausible(match) else _Match(match.row, (), (), match.rank) for match in matches]


def _assign(matches: Sequence[_Match], file: Path) -> tuple[dict[str, str], list[Row]]:
    """Returns the patient of each file, and the rows that fit several files or contradict another row.

    Raises DataError if one path is listed with two patients.
    """
    unsure = [match.row for match in matches if len(match.files) > 1]
    by_file: dict[str, list[_Match]] = defaultdict(list)
    for match in matches:
        if match.is_unique:
            by_file[match.files[0]].append(match)
    patients = {}
    for path, rows in by_file.items():
        best = min(match.rank for match in rows)
        named = {match.row.patient for match in rows if match.rank == best}
        if len(named) > 1 and not any(best):
            raise DataError(
                f"{file}: lists {path!r} with {len(named)} different patients; an image belongs to one patient, "
                "correct the list"
            )
        if len(named) == 1:
            patients[path] = named.pop()
        unsure += [match.row for match in rows if match.row.patient != patients.get(path)]
    return patients, unsure


def _nothing_fits(file: Path, rows: Sequence[Row], example: str) -> str:
    if not rows:
        return f"{file}: has no row with a path and a patient; list the images, or remove the file"
    return (
        f"{file}: none of its {len(rows):,} rows fits an image: the list says {rows[0].path!r}, an image here is "
        f"{example!r}; write paths relative to the folder of the list, or remove it"
    )


def _spelling_notes(matches: Sequence[_Match], patients: Mapping[str, str]) -> Iterator[str]:
    used = [match for match in matches if match.is_unique and match.files[0] in patients]
    other = [match for match in used if unicodedata.normalize("NFC", match.files[0]) != match.row.path]
    if other:
        said, meant = other[0].row.path, other[0].files[0]
        yield f"{PATIENTS} spells {counted(len(other), 'path')} in another way, such as {said!r} for {meant!r}"
    similar = Counter("".join(patient.casefold().split()) for patient in set(patients.values()))
    if count := sum(number for number in similar.values() if number > 1):
        yield f"{count} patient ids in {PATIENTS} differ only in case or spaces; they count as different patients"


def _warnings(table: patient_table.Table, absent: Sequence[Row], unsure: Sequence[Row]) -> Iterator[str]:
    rows = counted(len(table.rows) + table.incomplete, "row")
    if absent:
        yield f"{len(absent):,} of {rows} of {PATIENTS} name no image that is here, such as {absent[0].path!r}"
    if unsure:
        yield (
            f"{len(unsure):,} of {rows} of {PATIENTS} fit several images or contradict another row, such as "
            f"{unsure[0].path!r}, and were not used"
        )
    if table.incomplete:
        yield (
            f"{table.incomplete:,} of {rows} of {PATIENTS} lack a path or a patient, or have more cells than the "
            "first line, and were not used"
        )


def _misplaced(root: Path, above: Sequence[Path]) -> Iterator[str]:
    """Yields a warning for each file that was probably meant to be the list: elsewhere, or under another name."""
    below = sorted(entry for entry in _entries(root) if entry.is_dir() and not entry.name.startswith("."))
    for file in sorted(file for folder in (root, *below, *above) for file in _entries(folder)):
        if _is_meant(file.name, file.parent == root) and file.is_file():
            found = os.path.relpath(file, root)
            yield f"found {found!r}, which is not read; expected {PATIENTS!r} in the folder {root.name!r}"


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_meant(name: str, is_here: bool) -> bool:
    """Recognises `Patients.CSV`, `patients.csv.txt`, `patient list.xlsx`; without a suffix only in the hospital's folder."""
    stem, _, suffixes = name.casefold().partition(".")
    is_table = bool(TABLE_SUFFIXES & set(suffixes.split(".")))
    return stem.startswith("patient") and (is_table or (is_here and not suffixes))
