"""Predictions for many files: found in folders, predicted in batches, scored by their folders' labels."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medisync.config import normalise_folder
from medisync.data.decoding import Decoded, decode, file_bytes
from medisync.data.formats import UPLOAD_SUFFIXES
from medisync.data.intensities import Pixels
from medisync.data.preprocessing import standardise
from medisync.errors import DataError, ImageError
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import Totals, tally
from medisync.inference.predictor import Classifier, predict_batch, with_file_checks
from medisync.model.device import memory_kept
from medisync.schemas import LABELS, Label, Metrics, Prediction

BATCH = 64

FOLDER_LABELS: dict[str, Label] = {
    **{label: label for label in LABELS},
    **{f"{label} tumor": label for label in LABELS if label != "notumor"},
    "no tumor": "notumor",
}
"""Normalised folder names whose label needs no class map, such as those of `no_tumor` and `Pituitary Tumor`."""


@dataclass(frozen=True)
class FilePrediction:
    """The prediction for one file, or the reason why there is none."""

    path: Path
    prediction: Prediction | None
    problem: str
    """Empty where there is a prediction."""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the images below the folders named, sorted within each folder.

    Raises DataError for a path that does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if _is_image(file, path))
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def _is_image(file: Path, folder: Path) -> bool:
    """Leaves out what is hidden, which holds other programs' copies: checkpoints, thumbnails, resource forks."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.lower().endswith(UPLOAD_SUFFIXES) and file.is_file()


def predict_files(classifier: Classifier, paths: Iterable[Path]) -> Iterator[FilePrediction]:
    """Yields one FilePrediction per file, in order; one with a problem for a file that is not an image.

    A batch of files is decoded on all cores, then predicted on all cores: decoding and prediction at the same time
    would wait for each other.
    """
    remaining = iter(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool, memory_kept():
        while opened := _open_all(pool, list(islice(remaining, BATCH)), classifier.meta.image_size):
            images = [file.pixels for file in opened if isinstance(file, _Image)]
            predictions = iter(predict_batch(classifier, np.stack(images)) if images else [])
            for file in opened:
                if isinstance(file, _Image):
                    yield FilePrediction(file.path, with_file_checks(next(predictions), file.decoded), "")
                else:
                    yield file


@dataclass(frozen=True)
class _Image:
    path: Path
    decoded: Decoded
    pixels: Pixels
    """The network's input, uint8 [S, S]."""


def _open_all(pool: Executor, paths: Sequence[Path], size: int) -> list[_Image | FilePrediction]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as decoding does: threads share the setting, and one would end the other's
        return list(pool.map(partial(_open, size=size), paths))


def _open(path: Path, size: int) -> _Image | FilePrediction:
    try:
        decoded = decode(file_bytes(path))
    except ImageError as error:
        return FilePrediction(path, None, str(error))
    return _Image(path, decoded, standardise(decoded.pixels, size))


@dataclass(frozen=True)
class FolderScores:
    """A model's figures on a folder of class folders."""

    figures: dict[str, Any]
    unreadable: list[tuple[Path, str]]
    """Files that could not be read, each with the reason."""

    def text(self) -> str:
        """The figures as lines for a terminal."""
        return "\n".join(f"{name.replace('_', ' '):26}{_as_text(value)}" for name, value in self.figures.items())


def _as_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(part)}" for name, part in value.items())
    return "undefined" if value is None else str(value)


def score_folder(classifier: Classifier, folder: Path) -> FolderScores:
    """Metrics over the images in `folder`/CLASS/, where CLASS is a folder name in FOLDER_LABELS.

    A class folder may be missing; images in any other folder count only towards the fraction that is out of
    distribution.

    Raises DataError if no image can be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds folders such as glioma/ and notumor/")
    results = list(predict_files(classifier, find_images([folder])))
    read = [(result.path, result.prediction) for result in results if result.prediction is not None]
    if not read:
        raise DataError(f"{folder}: no readable image in it or its folders")
    labelled = [(label, prediction) for path, prediction in read if (label := _folder_label(path, folder)) is not None]
    flagged = sum(prediction.unlike_training for _, prediction in read) / len(read)
    unreadable = [(result.path, result.problem) for result in results if result.prediction is None]
    return FolderScores(_figures(compute_metrics(_tally(labelled)), flagged), unreadable)


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
    }


def _folder_label(path: Path, folder: Path) -> Label | None:
    """The label of the folder directly below `folder` that holds `path`."""
    parts = path.relative_to(folder).parts
    return FOLDER_LABELS.get(normalise_folder(parts[0])) if len(parts) > 1 else None
