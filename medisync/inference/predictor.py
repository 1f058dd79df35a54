"""From an image file to a calibrated prediction that says when not to trust it. Research use only, not a diagnosis."""

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
import torch
from numpy.typing import NDArray
from torch import nn

from medisync.config import normalise_folder
from medisync.data.decoding import Decoded, decode, file_bytes
from medisync.data.formats import UPLOAD_SUFFIXES
from medisync.data.intensities import Pixels
from medisync.data.preprocessing import normalise, standardise
from medisync.errors import ConfigError, DataError, ImageError, printable
from medisync.evaluation import calibration
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import Floats, softmax, tally
from medisync.model import local_batchnorm
from medisync.model.device import Device, memory_kept, select_device
from medisync.model.resnet import forward_with_features, load_weights, restore_network
from medisync.model.weights import State, read_checked
from medisync.schemas import LABELS, ImageCheck, Label, Metrics, Prediction, StoredModel
from medisync.workspace import artifacts

BATCH = 64
SMALL_SIDE = 128
LOW_CONTRAST = 40
COLOURFUL = 0.06
UNUSUAL_ASPECT = 1.6

FOLDER_LABELS: dict[str, Label] = {
    **{label: label for label in LABELS},
    **{f"{label} tumor": label for label in LABELS if label != "notumor"},
    "no tumor": "notumor",
}
"""Normalised folder names whose label needs no class map: `no_tumor`, `Pituitary Tumor`."""


@dataclass(frozen=True)
class Classifier:
    """A network ready to predict, with the calibration that its run fitted on validation."""

    network: nn.Module
    device: Device
    distribution: FeatureDistribution
    meta: StoredModel
    hospital: str = ""
    """Whose own statistics the network has; empty for those that all scans may be normalised by."""


@dataclass(frozen=True)
class Reading:
    """What reading one file gave: a prediction, or why there is none."""

    path: Path
    prediction: Prediction | None
    problem: str


def load(model_file: Path, distribution_file: Path, meta: StoredModel, hospital: str = "") -> Classifier:
    """The classifier of a run, or one hospital's own. Raises ModelError where a file is missing, altered or not what its name says.

    `hospital` says where the scans come from, if that is a hospital of the federation: they are normalised by its own statistics
    where the run has any. Raises ConfigError for one without.
    """
    state = load_weights(model_file, sha256=meta.model_sha256)
    if hospital:
        state.update(_own_statistics(model_file.parent, meta, hospital))
    distribution = FeatureDistribution.from_bytes(read_checked(distribution_file, meta.distribution_sha256))
    device = select_device("auto")
    return Classifier(restore_network(state, device).eval(), device, distribution, meta, hospital)


def _own_statistics(folder: Path, meta: StoredModel, hospital: str) -> State:
    if hospital not in meta.statistics_of:
        known = (
            f"of {', '.join(meta.statistics_of)} only"
            if meta.statistics_of
            else "of no hospital: it is the same for all"
        )
        raise ConfigError(f"{hospital!r}: the model has statistics {known}")
    data = read_checked(folder / artifacts.STATISTICS, meta.statistics_sha256)
    return local_batchnorm.from_bytes(data)[hospital]


def open_run(folder: Path, hospital: str = "") -> Classifier:
    """The classifier of a run's folder, or of `models/`, for scans of that hospital. Raises ArtifactError where its description is
    missing or damaged, and what `load` raises.
    """
    meta = artifacts.read(folder, artifacts.META)
    return load(folder / artifacts.MODEL, folder / artifacts.DISTRIBUTION, meta, hospital)


def predict(classifier: Classifier, data: bytes, slice_number: int | None = None) -> Prediction:
    """The prediction for the bytes of one image file, or one slice of a volume, as `images.decode` takes it.

    Raises ImageError with a sentence if it is none.
    """
    return predict_decoded(classifier, decode(data, slice_number))


def predict_decoded(classifier: Classifier, decoded: Decoded) -> Prediction:
    """The prediction for an image that is decoded already."""
    pixels = standardise(decoded.pixels, classifier.meta.image_size)
    return _with_file(predict_standardised(classifier, pixels), decoded)


def predict_standardised(classifier: Classifier, pixels: Pixels) -> Prediction:
    """The prediction for an image uint8 [S, S] as the network takes it, without checks of the file that it came from."""
    return _interpret(classifier, *(values[0] for values in forward(classifier, pixels[np.newaxis])))


def forward(classifier: Classifier, pixels: Pixels) -> tuple[NDArray[np.float32], Floats]:
    """Logits [N, classes] and distances from the training scans [N] of standardised images uint8 [N, S, S]."""
    with torch.inference_mode():
        batch = normalise(torch.from_numpy(np.ascontiguousarray(pixels)).to(classifier.device.kind))
        logits, features = forward_with_features(classifier.network, batch, classifier.device)
    return logits.cpu().numpy(), classifier.distribution.distances(features.cpu().numpy())


def predict_files(classifier: Classifier, paths: Iterable[Path]) -> Iterator[Reading]:
    """One reading per file, in order; a file that is no image is a reading with a problem.

    Files are decoded on all cores, then predicted on all cores, a batch at a time: cores shared by both would wait for each other.
    """
    remaining = iter(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool, memory_kept():
        while batch := _open_all(pool, list(islice(remaining, BATCH)), classifier.meta.image_size):
            usable = [pixels for _, _, pixels, _ in batch if pixels is not None]
            outputs = zip(*forward(classifier, np.stack(usable)), strict=True) if usable else iter(())
            for path, decoded, _, problem in batch:
                prediction = None if decoded is None else _with_file(_interpret(classifier, *next(outputs)), decoded)
                yield Reading(path, prediction, problem)


Opened = tuple[Path, Decoded | None, Pixels | None, str]


def _open_all(pool: Executor, paths: Sequence[Path], size: int) -> list[Opened]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as decoding does: threads share the setting, and one would end the other's
        return list(pool.map(partial(_open, size=size), paths))


def _open(path: Path, size: int) -> Opened:
    try:
        decoded = decode(file_bytes(path))
    except ImageError as error:
        return path, None, None, str(error)
    return path, decoded, standardise(decoded.pixels, size), ""


def _interpret(classifier: Classifier, logits: NDArray[np.float32], distance: float) -> Prediction:
    calibrated = classifier.meta.calibration
    row = logits[np.newaxis].astype(np.float64)
    probabilities = softmax(row / calibrated.temperature)[0]
    return Prediction(
        label=LABELS[int(probabilities.argmax())],
        confidence=float(probabilities.max()),
        probabilities={label: float(value) for label, value in zip(LABELS, probabilities, strict=True)},
        plausible=calibration.prediction_set(probabilities, calibrated.conformal_threshold),
        distance=float(distance),
        unlike_training=bool(distance > calibrated.distance_threshold),
        checks=[],
        notes=[],
    )


def _with_file(prediction: Prediction, decoded: Decoded) -> Prediction:
    about = {"checks": check_image(decoded), "notes": list(decoded.notes), "slices": decoded.slices}
    return prediction.model_copy(update=about)


def check_image(decoded: Decoded) -> list[ImageCheck]:
    """What a person should look at before believing a prediction for this image."""
    aspect = max(decoded.width, decoded.height) / min(decoded.width, decoded.height)
    return [
        ImageCheck(
            name="size",
            passed=min(decoded.width, decoded.height) >= SMALL_SIDE,
            detail=f"{decoded.width} x {decoded.height} pixels",
        ),
        ImageCheck(
            name="contrast",
            passed=decoded.contrast >= LOW_CONTRAST,
            detail=f"{decoded.contrast:.0f} of 255 grey levels used",
        ),
        ImageCheck(name="aspect", passed=aspect <= UNUSUAL_ASPECT, detail=f"{aspect:.2f} : 1"),
        ImageCheck(
            name="colour",
            passed=decoded.colourfulness <= COLOURFUL,
            detail="grey" if decoded.colourfulness <= COLOURFUL else "in colour; MRI slices are grey",
        ),
    ]


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the images below the folders named, sorted. Raises DataError for a path that is not there."""
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
    """Hidden files and folders hold other programs' copies: checkpoints, thumbnails, resource forks."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.lower().endswith(UPLOAD_SUFFIXES) and file.is_file()


def csv_row(reading: Reading) -> list[str]:
    """path, label, one probability per class, note; label and probabilities are empty where there is no prediction."""
    if reading.prediction is None:
        return [printable(str(reading.path)), "", *([""] * len(LABELS)), reading.problem]
    prediction = reading.prediction
    warnings = [f"{check.name}: {check.detail}" for check in prediction.checks if not check.passed]
    unlike = ["unlike the training scans"] if prediction.unlike_training else []
    probabilities = [f"{prediction.probabilities[label]:.4f}" for label in LABELS]
    return [
        printable(str(reading.path)),
        prediction.label,
        *probabilities,
        "; ".join([*unlike, *warnings, *prediction.notes]),
    ]


@dataclass(frozen=True)
class FolderScores:
    """What a model makes of a folder of class folders."""

    figures: dict[str, Any]
    unreadable: list[tuple[Path, str]]

    def text(self) -> str:
        """The figures as lines for a terminal."""
        return "\n".join(f"{name.replace('_', ' '):26}{_shown(value)}" for name, value in self.figures.items())


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return "undefined" if value is None else str(value)


def score_folder(classifier: Classifier, folder: Path) -> FolderScores:
    """Metrics over the images in `folder`/CLASS/, for the folder names in FOLDER_LABELS.

    A class folder may be missing; images below a folder that is no class count for the share of scans unlike the training
    ones only. Raises DataError where no image can be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds folders such as glioma/ and notumor/")
    readings = list(predict_files(classifier, find_images([folder])))
    read = [(reading.path, reading.prediction) for reading in readings if reading.prediction is not None]
    if not read:
        raise DataError(f"{folder}: no readable image in it or its folders")
    known = [(label, prediction) for path, prediction in read if (label := _folder_label(path, folder)) is not None]
    labels = np.array([LABELS.index(label) for label, _ in known], np.int64)
    probabilities = np.array([[p.probabilities[label] for label in LABELS] for _, p in known]).reshape(-1, len(LABELS))
    totals = tally(labels, np.log(np.maximum(probabilities, 1e-12)), np.arange(len(labels)))
    unlike = sum(prediction.unlike_training for _, prediction in read) / len(read)
    unreadable = [(reading.path, reading.problem) for reading in readings if reading.prediction is None]
    return FolderScores(_figures(compute_metrics(totals), unlike), unreadable)


def _figures(metrics: Metrics, unlike: float) -> dict[str, Any]:
    return {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1,
        "per_class_recall": {label: figures.recall for label, figures in metrics.per_class.items()},
        "confusion_matrix": metrics.confusion_matrix,
        "ece": metrics.ece,
        "out_of_distribution_share": unlike,
        "n": metrics.n,
    }


def _folder_label(path: Path, folder: Path) -> Label | None:
    """The label of the folder right below `folder` that `path` is in."""
    parts = path.relative_to(folder).parts
    return FOLDER_LABELS.get(normalise_folder(parts[0])) if len(parts) > 1 else None
