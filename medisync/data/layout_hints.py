"""Says what lies near the place where a hospital's images were expected."""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from medisync.config import Hospital, normalise_folder
from medisync.data.discovery import locate
from medisync.schemas import HospitalAudit

DEPTH, FOLDERS = 5, 2000
"""How deep, and in how many folders, class folders are looked for."""

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.xz")
NAMED = 3
"""Names that are listed of each kind."""


def hints(hospital: Hospital, found: HospitalAudit, hospitals: Sequence[Hospital], dataset: Path) -> list[str]:
    """Returns clauses on what was found instead of the hospital's images, the likeliest reason first; may be empty."""
    root = dataset / locate(dataset, hospital.path)
    if not dataset.is_dir() or not any(_visible(dataset)):
        return [
            "the dataset folder is empty: `medisync download` fetches the public datasets, `medisync demo` draws phantoms"
        ]
    others = [each for each in hospitals if each.path != hospital.path]
    elsewhere = list(_class_folders_elsewhere(hospital, root, others, dataset))
    clauses = [
        *elsewhere,
        *_archives(hospital, root, dataset),
        *_matlab_files(root, dataset),
        *([] if root.is_dir() or elsewhere else _similar_folder(hospital, others, dataset)),
        *(found.warnings if root.is_dir() else []),
        *_unusable(found),
    ]
    if not clauses and root.is_dir():
        clauses = [f"found {_listed([path.name for path in _visible(root)])}" if any(_visible(root)) else "it is empty"]
    return clauses or [f"there is no such folder; found {_listed([path.name for path in _visible(dataset)])}"]


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED]))
    return f"{shown} and {len(names) - NAMED:,} more" if len(names) > NAMED else shown


def _class_folders_elsewhere(
    hospital: Hospital, root: Path, others: Sequence[Hospital], dataset: Path
) -> Iterator[str]:
    """Yields the folder that holds class folders, at any depth, outside the folders of all hospitals."""
    excluded = {root, *(dataset / locate(dataset, each.path) for each in others)}
    places = [place for place in _folders(dataset, excluded) if _class_folders(place, hospital)]
    places = places or [place for place in _beside(dataset) if _class_folders(place, hospital)]
    if places:
        common = Path(os.path.commonpath(places))
        place = common if common != dataset else places[0]
        names = sorted(
            {name for each in places if each.is_relative_to(place) for name in _class_folders(each, hospital)}
        )
        where = "the dataset folder itself" if place == dataset else repr(os.path.relpath(place, dataset))
        yield f"class folders ({_listed(names)}) are in {where}: move them to {hospital.path!r}, or change `path`"


def _class_folders(folder: Path, hospital: Hospital) -> list[str]:
    return [
        path.name for path in _visible(folder) if normalise_folder(path.name) in hospital.class_map and path.is_dir()
    ]


def _folders(top: Path, excluded: set[Path]) -> Iterator[Path]:
    """Yields folders from `top` down, nearest first; those of hospitals and what is in them are left out."""
    waiting, seen = [(top, 0)], 0
    while waiting and seen < FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        yield folder
        if depth < DEPTH:
            inner = [
                path for path in _visible(folder) if path not in excluded and path.is_dir() and not path.is_symlink()
            ]
            waiting += [(path, depth + 1) for path in inner]


def _beside(dataset: Path) -> list[Path]:
    """Returns the folders beside the dataset folder, where images are put by mistake."""
    return [path for path in _visible(dataset.parent) if path.is_dir() and path != dataset]


def _archives(hospital: Hospital, root: Path, dataset: Path) -> Iterator[str]:
    places = [root, root.parent, dataset, dataset.parent]
    found = {path for folder in places for path in _visible(folder) if path.name.lower().endswith(ARCHIVES)}
    if found:
        names = _listed([os.path.relpath(path, dataset) for path in sorted(found)])
        what = (
            f"{names} is not unpacked: unpack it"
            if len(found) == 1
            else f"{names} are not unpacked: unpack this hospital's"
        )
        yield f"{what} into {hospital.path!r}"


def _matlab_files(root: Path, dataset: Path) -> Iterator[str]:
    folder = root if root.is_dir() else dataset
    if any(path.suffix.lower() == ".mat" for each in _folders(folder, set()) for path in _visible(each)):
        yield (
            "MATLAB files (.mat), as Figshare offers them, are not read: move them away and let `medisync download` fetch "
            "and convert that collection, or export the slices as PNG into class folders"
        )


def _similar_folder(hospital: Hospital, others: Sequence[Hospital], dataset: Path) -> Iterator[str]:
    """Yields the folder with nearly the name of the first part of the path that does not exist, unless it is another's."""
    place = dataset
    taken = {dataset / Path(each.path).parts[0] for each in others}
    for part in Path(hospital.path).parts:
        if not (place / part).exists():
            inner = [each for each in _visible(place) if each.is_dir() and each not in taken]
            names = {_letters(each.name): each.name for each in inner}
            if close := difflib.get_close_matches(_letters(part), names, n=1, cutoff=0.75):
                yield f"found {names[close[0]]!r}, not {part!r}: rename it, or change `path`"
            return
        place /= part


def _letters(name: str) -> str:
    return normalise_folder(name).replace(" ", "")


def _unusable(found: HospitalAudit) -> Iterator[str]:
    counts = {"unreadable": found.unreadable, "quarantined": found.quarantined}
    if any(counts.values()):
        said = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
        yield f"{said}: `medisync audit` says why for each file"
