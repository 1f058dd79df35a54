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
from medisync.evaluation.external import external_figures
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import Floats, Totals, tally, tally_others
from medisync.imaging.file_tree import LeftOut, counted
from medisync.imaging.scan_files import Entry, Found, list_folder, sort_files
from medisync.inference.folders import ScanPrediction, predict_scans
from medisync.inference.predictor import Classifier, probability_rows
from medisync.schemas import (
    LABELS,
    OTHER,
    Calibration,
    ExternalFigures,
    ExternalLabel,
    Label,
    Metrics,
    ModelMeta,
    Prediction,
    ScoreHistograms,
    SelectiveMetrics,
)

FOLDER_LABELS: dict[str, ExternalLabel] = {
    **{label: label for label in LABELS},
    **{f"{label} {word}": label for label in LABELS if label != "notumor" for word in ("tumor", "tumour")},
    **dict.fromkeys(("no tumor", "no tumour", "notumour"), "notumor"),
    OTHER: OTHER,
}
"""Normalised folder names whose label needs no class map, such as those of `no_tumor` and `Pituitary Tumor`."""


@dataclass(frozen=True)
class Conflict:
    """A folder name that hospitals use for different classes."""

    meanings: str


FolderMeaning = ExternalLabel | Conflict
FolderLabels = Mapping[str, FolderMeaning]
"""The label that each normalised folder name stands for."""


def folder_labels(
    class_maps: Mapping[str, Mapping[str, Label]], hospital: str = "", others: Sequence[str] = ()
) -> FolderLabels:
    """Joins the hospitals' class maps, and adds the names that need none; `others` hold scans that are of none of the classes.

    A name with different labels has a Conflict instead, unless `hospital` says whose class map holds. Raises ConfigError
    for a hospital without a class map, and for one of `others` that is a class folder.
    """
    if hospital and hospital not in class_maps:
        known = f"those with a class map are {', '.join(class_maps)}" if class_maps else "the run has no class maps"
        raise ConfigError(f"{hospital!r} is no hospital of the run; {known}")
    meanings: dict[str, dict[Label, str]] = {}
    for name in [hospital] if hospital else class_maps:
        for folder, label in normalise_class_map(class_maps[name]).items():
            meanings.setdefault(folder, {}).setdefault(label, name)
    labels = {**FOLDER_LABELS, **{folder: _joined(labels) for folder, labels in meanings.items()}}
    for name in others:
        if (meaning := labels.get(normalise_folder(name), OTHER)) != OTHER:
            stands_for = meaning.meanings if isinstance(meaning, Conflict) else meaning
            raise ConfigError(f"--other {name}: a folder of this name stands for {stands_for}")
    return {**labels, **{normalise_folder(name): OTHER for name in others}}


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
    details: dict[str, Any]
    """Intervals and curves, which the JSON has and the terminal does not."""
    folders: list[LeftOutFolder]
    files: LeftOut
    unreadable: list[ScanPrediction]

    def to_json(self) -> dict[str, Any]:
        folders = [{"folder": each.name, "scans": each.scans, "reason": each.reason} for each in self.folders]
        left_out = {"folders": folders, "files": dict(self.files.counts), "unreadable": len(self.unreadable)}
        return {**self.figures, **self.details, "left_out": left_out}

    def text(self) -> str:
        """The figures as lines for a terminal."""
        return "\n".join(f"{name.replace('_', ' '):29}{_as_text(value)}" for name, value in self.figures.items())


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
    label: FolderMeaning | None
    found: Found


Read = tuple[FolderMeaning | None, Prediction]
"""What the folder of a scan stands for, and the prediction for the scan."""


def score_folder(classifier: Classifier, root: Path, labels: FolderLabels) -> FolderScores:
    """Metrics over the scans below `root`, whose class is that of the innermost folder above them that has a label.

    A class folder may be missing. Scans in folders whose label is "other" are of none of the classes: what is answered of
    them is wrong. Scans in a folder without a label count only towards the fraction that is out of distribution. Raises
    DataError if there is no scan with a label that can be read: figures of nothing are none.
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
    if not any(isinstance(label, str) for label, _ in read):
        raise DataError(f"{root}: no scan in its class folders can be read; the first: {unreadable[0].problem}")
    flagged = sum(prediction.unlike_training for _, prediction in read) / len(read)
    fitted = classifier.calibration
    known, other = _tally(read, fitted), _tally_others(read, fitted)
    figures = external_figures(known, other, _histograms(classifier), fitted)
    metrics = figures.known or compute_metrics(known, fitted)  # the latter of no scan at all
    return FolderScores(_figures(metrics, figures, flagged), _details(metrics, figures), left_out, files, unreadable)


def sort_by_class(entries: Iterable[Entry], root: Path, labels: FolderLabels) -> list[ClassFolder]:
    """Sorts files by the innermost folder with a label, so that no scan stands in two classes."""
    inside: dict[PurePosixPath, list[Entry]] = {}
    meanings: dict[PurePosixPath, FolderMeaning | None] = {}
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


def _predict(classifier: Classifier, folders: Sequence[ClassFolder]) -> tuple[list[Read], list[ScanPrediction]]:
    """Returns the predictions with their folders' labels, and the scans that could not be read."""
    meanings = [folder.label for folder in folders for _ in folder.found.scans]
    results = list(predict_scans(classifier, (scan for folder in folders for scan in folder.found.scans)))
    read = [(meaning, each.prediction) for meaning, each in zip(meanings, results, strict=True) if each.prediction]
    return read, [each for each in results if each.prediction is None]


def _tally(read: Sequence[Read], fitted: Calibration) -> Totals:
    """The totals of the scans of the four classes, each a group of its own: nothing is known about patients."""
    found = [(LABELS.index(label), each) for label, each in read if isinstance(label, str) and label != OTHER]
    return tally(
        np.array([label for label, _ in found], np.int64),
        _log_probabilities([each for _, each in found]),
        np.arange(len(found)),
        ood_scores=np.array([each.distance for _, each in found]),
        ood_threshold=fitted.distance_threshold,
        covariances=True,
    )


def _tally_others(read: Sequence[Read], fitted: Calibration) -> Totals:
    found = [each for label, each in read if label == OTHER]
    return tally_others(
        _log_probabilities(found),
        np.arange(len(found)),
        ood_scores=np.array([each.distance for each in found]),
        ood_threshold=fitted.distance_threshold,
    )


def _log_probabilities(predictions: Sequence[Prediction]) -> Floats:
    return np.log(np.maximum(probability_rows(predictions), 1e-12))


def _histograms(classifier: Classifier) -> ScoreHistograms | None:
    """The scores of the hospitals' test scans, where the run recorded them."""
    return classifier.meta.metrics.histograms if isinstance(classifier.meta, ModelMeta) else None


def _figures(metrics: Metrics, outside: ExternalFigures, out_of_distribution: float) -> dict[str, Any]:
    selective, others = metrics.selective, outside.other_selective
    return {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "per_class_recall": {label: figures.recall for label, figures in metrics.per_class.items()},
        "confusion_matrix": metrics.confusion_matrix,
        "ece": metrics.ece,
        "out_of_distribution_share": out_of_distribution,
        "confidently_wrong": selective.confidently_wrong if selective else None,
        "confidently_wrong_other": others.confidently_wrong if others else None,
        **_answers(selective),
        **{f"{name}_other": value for name, value in _answers(others).items()},
        **outside.model_dump(exclude={"known", "other_selective"}),
        "n": metrics.n,
        "n_per_class": {label: figures.support for label, figures in metrics.per_class.items()},
        "n_other": others.n if others else 0,
    }


def _answers(found: SelectiveMetrics | None) -> dict[str, Any]:
    """Returns what is answered and how often wrongly; nothing for a run before verdicts."""
    if found is None or found.without_doubt is None or found.answered is None:
        return {}
    return {"answered_without_doubt": found.without_doubt.model_dump(), "answered": found.answered.model_dump()}


def _details(metrics: Metrics, outside: ExternalFigures) -> dict[str, Any]:
    known = metrics.model_dump(include={"intervals", "reliability", "selective"})
    recall = {
        label: figures.intervals["recall"].model_dump()
        for label, figures in metrics.per_class.items()
        if "recall" in figures.intervals
    }
    others = outside.other_selective
    return {**known, "per_class_recall_intervals": recall, "other_selective": others.model_dump() if others else None}
