"""A model's figures on a folder of class folders that it has not seen."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medisync.config import normalise_class_map, normalise_folder
from medisync.data.class_names import TUMOUR_OF_ANY_CLASS, WITHOUT_TUMOUR
from medisync.data.discovery import class_folder
from medisync.errors import ConfigError, DataError, printable
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import Totals, tally
from medisync.imaging.file_tree import LeftOut, counted
from medisync.imaging.scan_files import Entry, Found, list_folder, sort_files
from medisync.inference.folders import ScanPrediction, predict_scans
from medisync.inference.predictor import Classifier
from medisync.schemas import LABELS, Label, Metrics, Prediction

FOLDER_LABELS: dict[str, Label] = {
    **{label: label for label in LABELS},
    **{f"{label} {word}": label for label in LABELS if label != "notumor" for word in ("tumor", "tumour")},
    **dict.fromkeys(("no tumor", "no tumour", "notumour"), "notumor"),
}
"""Normalised folder names whose label needs no class map, such as those of `no_tumor` and `Pituitary Tumor`."""


@dataclass(frozen=True)
class Conflict:
    """A folder name that hospitals use for different classes."""

    meanings: str


FolderLabels = Mapping[str, Label | Conflict]
"""The label that each normalised folder name stands for."""


def folder_labels(class_maps: Mapping[str, Mapping[str, Label]], hospital: str = "") -> FolderLabels:
    """Joins the hospitals' class maps, and adds the names that need none.

    A name with different labels has a Conflict instead, unless `hospital` says whose class map holds. Raises ConfigError
    for a hospital without a class map.
    """
    if hospital and hospital not in class_maps:
        known = f"those with a class map are {', '.join(class_maps)}" if class_maps else "the run has no class maps"
        raise ConfigError(f"{hospital!r} is no hospital of the run; {known}")
    meanings: dict[str, dict[Label, str]] = {}
    for name in [hospital] if hospital else class_maps:
        for folder, label in normalise_class_map(class_maps[name]).items():
            meanings.setdefault(folder, {}).setdefault(label, name)
    return {**FOLDER_LABELS, **{folder: _joined(labels) for folder, labels in meanings.items()}}


def _joined(labels: Mapping[Label, str]) -> Label | Conflict:
    if len(labels) == 1:
        return next(iter(labels))
    return Conflict(" but ".join(f"{label} at {hospital}" for label, hospital in labels.items()))


@dataclass(frozen=True)
class LeftOutFolder:
    """A folder whose scans count for no class."""

    name: str
    scans: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name}/ ({counted(self.scans, 'scan')}; {self.reason})"


@dataclass(frozen=True)
class FolderScores:
    """A model's figures on a folder of class folders, and what they leave out."""

    figures: dict[str, Any]
    folders: list[LeftOutFolder]
    files: LeftOut
    unreadable: list[ScanPrediction]

    def to_json(self) -> dict[str, Any]:
        folders = [{"folder": each.name, "scans": each.scans, "reason": each.reason} for each in self.folders]
        left_out = {"folders": folders, "files": dict(self.files.counts), "unreadable": len(self.unreadable)}
        return {**self.figures, "left_out": left_out}

    def text(self) -> str:
        """The figures as lines for a terminal."""
        return "\n".join(f"{name.replace('_', ' '):26}{_as_text(value)}" for name, value in self.figures.items())


def _as_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(part)}" for name, part in value.items())
    return "undefined" if value is None else str(value)


@dataclass(frozen=True)
class ClassFolder:
    """A class folder, or any other that directly holds files, with its scans."""

    path: PurePosixPath
    label: Label | Conflict | None
    found: Found


def score_folder(classifier: Classifier, root: Path, labels: FolderLabels) -> FolderScores:
    """Metrics over the scans below `root`, whose class is that of the innermost folder above them that has a label.

    A class folder may be missing; scans in any other folder count only towards the fraction that is out of distribution.
    Raises DataError if there is no scan with a label that can be read: figures of nothing are none.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file; expected a folder that holds folders such as glioma/ and notumor/")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one that holds folders such as glioma/ and notumor/")
    entries, files = list_folder(root)
    folders = sort_by_class(entries, root, labels)
    for folder in folders:
        files.update(folder.found.left_out)
    left_out = [
        _left_out(folder, labels) for folder in folders if not isinstance(folder.label, str) and folder.found.scans
    ]
    _require_labelled(root, folders, left_out, files, labels)
    read, unreadable = _predict(classifier, folders)
    labelled = [(label, prediction) for label, prediction in read if isinstance(label, str)]
    if not labelled:
        raise DataError(f"{root}: no scan in its class folders can be read; the first: {unreadable[0].problem}")
    flagged = sum(prediction.unlike_training for _, prediction in read) / len(read)
    return FolderScores(_figures(compute_metrics(_tally(labelled)), flagged), left_out, files, unreadable)


def sort_by_class(entries: Iterable[Entry], root: Path, labels: FolderLabels) -> list[ClassFolder]:
    """Sorts files by the innermost folder with a label, so that no scan stands in two classes."""
    inside: dict[PurePosixPath, list[Entry]] = {}
    meanings: dict[PurePosixPath, Label | Conflict | None] = {}
    for entry in entries:
        path, meaning = class_folder(PurePosixPath(entry.name).relative_to(root).parent, labels)
        inside.setdefault(path, []).append(entry)
        meanings[path] = meaning
    return [ClassFolder(path, meanings[path], sort_files(files)) for path, files in inside.items()]


def _left_out(folder: ClassFolder, labels: FolderLabels) -> LeftOutFolder:
    name = printable(str(folder.path))
    if isinstance(folder.label, Conflict):
        reason = f"it stands for {folder.label.meanings}; say with --hospital which holds"
    else:
        reason = _hint(normalise_folder(folder.path.name), labels)
    return LeftOutFolder(name, len(folder.found.scans), reason)


def _hint(name: str, labels: FolderLabels) -> str:
    if name in TUMOUR_OF_ANY_CLASS:
        return "a tumour of no particular class cannot be scored by class"
    if name in WITHOUT_TUMOUR:
        return "rename it to no_tumor if that is what it holds"
    similar = difflib.get_close_matches(name, labels, n=1, cutoff=0.75)
    return f"not in a class map; similar to {similar[0]!r}" if similar else "not in a class map"


def _require_labelled(
    root: Path, folders: Sequence[ClassFolder], left_out: Sequence[LeftOutFolder], files: LeftOut, labels: FolderLabels
) -> None:
    if any(folder.found.scans for folder in folders if isinstance(folder.label, str)):
        return
    if not left_out:
        raise DataError(f"{root}: no scan in it; {_expected(labels)}{f'; found only {files}' if files else ''}")
    if normalise_folder(root.resolve().name) in labels:
        raise DataError(f"{root}: it is itself a class folder; evaluate the folder above it")
    raise DataError(f"{root}: no scan in a class folder; {_expected(labels)}; found {_listed(left_out)}")


def _expected(labels: FolderLabels) -> str:
    others = [folder.replace(" ", "_") for folder in labels if folder not in FOLDER_LABELS][:8]
    run = f" or, as in the run's class maps, {', '.join(map(printable, others))}" if others else ""
    return f"expected folders such as glioma/ and notumor/{run}"


def _listed(folders: Sequence[LeftOutFolder]) -> str:
    more = f" and {len(folders) - 5} more" if len(folders) > 5 else ""
    return ", ".join(map(str, folders[:5])) + more


def _predict(
    classifier: Classifier, folders: Sequence[ClassFolder]
) -> tuple[list[tuple[Label | Conflict | None, Prediction]], list[ScanPrediction]]:
    """Returns the predictions with their folders' labels, and the scans that could not be read."""
    meanings = [folder.label for folder in folders for _ in folder.found.scans]
    results = list(predict_scans(classifier, (scan for folder in folders for scan in folder.found.scans)))
    read = [(meaning, each.prediction) for meaning, each in zip(meanings, results, strict=True) if each.prediction]
    return read, [each for each in results if each.prediction is None]


def _tally(labelled: Sequence[tuple[Label, Prediction]]) -> Totals:
    labels = np.array([LABELS.index(label) for label, _ in labelled], np.int64)
    rows = [[prediction.probabilities[label] for label in LABELS] for _, prediction in labelled]
    probabilities = np.array(rows).reshape(-1, len(LABELS))
    return tally(labels, np.log(np.maximum(probabilities, 1e-12)), np.arange(len(labels)))


def _figures(metrics: Metrics, out_of_distribution: float) -> dict[str, Any]:
    return {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "per_class_recall": {label: figures.recall for label, figures in metrics.per_class.items()},
        "confusion_matrix": metrics.confusion_matrix,
        "ece": metrics.ece,
        "out_of_distribution_share": out_of_distribution,
        "n": metrics.n,
        "n_per_class": {label: figures.support for label, figures in metrics.per_class.items()},
    }
