"""A run's model, and its calibrated predictions for single scans, with the reasons to distrust them.

Research use only, not a diagnosis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medisync.errors import ConfigError, ImageError, ModelError
from medisync.evaluation.calibration import prediction_set
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import Floats, softmax
from medisync.imaging.decoding import Decoded, Scan, decode
from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import normalise, standardise
from medisync.inference.verdict import Judgement, at_most_doubt, judge, with_checks
from medisync.model import local_batchnorm
from medisync.model.device import Device, memory_kept, select_device
from medisync.model.resnet import FEATURE_LAYOUTS, forward_with_features, load_weights, restore_network
from medisync.model.weights import read_checked
from medisync.schemas import (
    LABELS,
    Adaptation,
    Calibration,
    ImageCheck,
    Prediction,
    StoredModel,
)
from medisync.workspace import adaptations, artifacts

SMALL_SIDE = 128
LOW_CONTRAST = 40
COLOURFUL = 0.06
UNUSUAL_ASPECT = 1.6
"""Limits of the checks of an image: pixels, grey levels, colourfulness in [0, 1], longer side over shorter side."""

SLICE_BATCH = 32
"""Slices of a volume that are predicted together."""


@dataclass(frozen=True)
class Classifier:
    """A network ready to predict, with the calibration that its run fitted on validation."""

    network: nn.Module
    device: Device
    distribution: FeatureDistribution
    meta: StoredModel
    hospital: str = ""
    """The hospital that the scans come from; empty where it is not known or makes no difference."""
    adaptation: Adaptation | None = None
    """What that hospital estimated from scans of its own, if it is from outside the run."""

    @property
    def calibration(self) -> Calibration:
        """The calibration for scans of that hospital, or of none that is known."""
        fitted = self.meta.calibration_at(self.hospital)
        if self.adaptation:
            return fitted.model_copy(update={"distance_threshold": self.adaptation.distance_threshold})
        return fitted

    @property
    def adjustment(self) -> Floats:
        """Values [classes] added to the logits: the logarithms of the hospital's own prior, 0 where none is known.

        An estimated prior is relative to the one that calibrated probabilities assume, so that its logarithms are multiplied
        with the temperature, which all logits are divided by.
        """
        if own := self.adaptation:
            ratios = [own.prior[label] / own.assumed[label] for label in LABELS]
            return self.calibration.temperature * np.log(ratios)
        prior = self.meta.hospital_priors.get(self.hospital, {})
        return np.log([prior.get(label, 1.0) for label in LABELS])


def open_run(folder: Path, hospital: str = "") -> Classifier:
    """The classifier in a run's folder, or in `models/`, for scans from `hospital`, as `load` takes it.

    Raises ArtifactError if the model's description is missing or damaged, and whatever `load` raises.
    """
    meta = artifacts.read(folder, artifacts.META)
    return load(folder / artifacts.MODEL, folder / artifacts.DISTRIBUTION, meta, hospital)


def load(model_file: Path, distribution_file: Path, meta: StoredModel, hospital: str = "") -> Classifier:
    """The classifier in these files: a run's global model, or one hospital's own.

    `hospital` is the hospital that the scans come from. Those of one of the federation are predicted under its own prior and
    normalised with its own running statistics, where the run has these; those of another under the prior and with the OOD
    threshold of its adaptation, a file beside the model.

    Raises ModelError if a file is missing, altered, not what its name says or for another model; ConfigError if the model
    does not distinguish that hospital and there is no adaptation of that name.
    """
    adaptation = _find_adaptation(model_file.parent, meta, hospital)
    state = load_weights(model_file, sha256=meta.model_sha256)
    if hospital in meta.statistics_of:
        data = read_checked(model_file.parent / artifacts.STATISTICS, meta.statistics_sha256)
        state.update(local_batchnorm.parse_statistics(data)[hospital])
    distribution = FeatureDistribution.from_bytes(read_checked(distribution_file, meta.distribution_sha256))
    if distribution.features not in FEATURE_LAYOUTS:
        known = " or ".join(map(str, FEATURE_LAYOUTS))
        raise ModelError(f"the feature distribution is of {distribution.features} features, expected {known}")
    device = select_device("auto")
    return Classifier(restore_network(state, device).eval(), device, distribution, meta, hospital, adaptation)


def _find_adaptation(folder: Path, meta: StoredModel, hospital: str) -> Adaptation | None:
    """The adaptation for scans of `hospital`; None where the model knows the hospital itself, or none is named."""
    if not hospital or hospital in meta.distinguishes:
        return None
    if found := adaptations.find(folder, hospital, meta.model_sha256):
        return found
    known = [*meta.distinguishes, *(each.name for each in adaptations.usable(folder, meta.model_sha256))]
    if not known:
        raise ConfigError(f"{hospital!r}: the model is the same for scans of all hospitals; name no hospital")
    raise ConfigError(f"{hospital!r}: the model distinguishes {', '.join(known)} only; name one of these, or none")


def predict(classifier: Classifier, data: bytes, slice_number: int | None = None) -> Prediction:
    """The prediction for the bytes of one image file, or for one slice of a volume, as `decode` takes them.

    Raises ImageError, with a sentence that says why, if they are not an image.
    """
    _, prediction = standardise_and_predict(classifier, decode(data, slice_number))
    return prediction


def slice_numbers(count: int, at_most: int) -> list[int]:
    """The numbers, from 1, of `count` slices; of more than `at_most` only so many, evenly spaced from first to last."""
    return np.linspace(1, count, min(count, at_most)).round().astype(int).tolist()


def predict_slices(
    classifier: Classifier, scan: Scan, numbers: Sequence[int] | None = None
) -> Iterator[Prediction | str]:
    """Yields for each slice, or each of `numbers` from 1, its prediction or the reason why there is none, in that order.

    A slice has none where it cannot be read or has no content, as at the ends of most volumes.
    """
    wanted = range(1, scan.count + 1) if numbers is None else numbers
    with memory_kept():
        for start in range(0, len(wanted), SLICE_BATCH):
            yield from _predict_together(classifier, scan, wanted[start : start + SLICE_BATCH])


def _predict_together(classifier: Classifier, scan: Scan, numbers: Sequence[int]) -> list[Prediction | str]:
    slices = [_decoded_or_reason(scan, number) for number in numbers]
    images = [standardise(each.pixels, classifier.meta.image_size) for each in slices if isinstance(each, Decoded)]
    found = iter(predict_batch(classifier, np.stack(images)) if images else [])
    return [each if isinstance(each, str) else with_file_checks(next(found), each) for each in slices]


def _decoded_or_reason(scan: Scan, number: int) -> Decoded | str:
    try:
        return scan.decode(number)
    except ImageError as problem:
        return str(problem)


def standardise_and_predict(classifier: Classifier, decoded: Decoded) -> tuple[Pixels, Prediction]:
    """A decoded image as the network takes it, uint8 [S, S], and the prediction for it, with the checks of its file."""
    pixels = standardise(decoded.pixels, classifier.meta.image_size)
    return pixels, with_file_checks(predict_standardised(classifier, pixels), decoded)


def predict_standardised(classifier: Classifier, pixels: Pixels) -> Prediction:
    """The prediction for a standardised image uint8 [S, S], without checks of the file that it came from."""
    (prediction,) = predict_batch(classifier, pixels[np.newaxis])
    return prediction


def predict_batch(classifier: Classifier, pixels: Pixels) -> list[Prediction]:
    """The predictions for standardised images uint8 [N, S, S], without checks of the files that they came from."""
    return [_interpret(classifier, *outputs) for outputs in zip(*forward(classifier, pixels), strict=True)]


def forward(classifier: Classifier, pixels: Pixels) -> tuple[Floats, Floats]:
    """Logits [N, classes] under the classifier's prior and OOD scores [N] of standardised images uint8 [N, S, S]."""
    with torch.inference_mode():
        batch = normalise(torch.from_numpy(np.ascontiguousarray(pixels)).to(classifier.device.kind))
        number = classifier.distribution.features
        logits, features = forward_with_features(classifier.network, batch, classifier.device, number)
    return logits.cpu().numpy() + classifier.adjustment, classifier.distribution.ood_scores(features.cpu().numpy())


def probability_rows(predictions: Sequence[Prediction]) -> Floats:
    """The calibrated probabilities of predictions, [N, classes], in the order of LABELS."""
    rows = [[each.probabilities[label] for label in LABELS] for each in predictions]
    return np.array(rows).reshape(-1, len(LABELS))


def _interpret(classifier: Classifier, logits: Floats, ood_score: float) -> Prediction:
    calibration = classifier.calibration
    probabilities = softmax(logits[np.newaxis] / calibration.temperature)[0]
    flagged, confidence = bool(ood_score > calibration.distance_threshold), float(probabilities.max())
    plausible = prediction_set(probabilities, calibration.conformal_threshold)
    verdict, reasons = judge(calibration, confidence=confidence, flagged=flagged)
    if classifier.adaptation:
        alone = _judge_alone(classifier, logits, ood_score, int(probabilities.argmax()))
        verdict, reasons = at_most_doubt((verdict, reasons), alone)
    return Prediction(
        label=LABELS[int(probabilities.argmax())],
        confidence=confidence,
        probabilities={label: float(value) for label, value in zip(LABELS, probabilities, strict=True)},
        plausible=plausible,
        distance=float(ood_score),
        unlike_training=flagged,
        verdict=verdict,
        reasons=reasons,
        checks=[],
        notes=[],
    )


def _judge_alone(classifier: Classifier, logits: Floats, ood_score: float, answer: int) -> Judgement:
    """The verdict on this answer, a class's index, if the hospital had no adaptation."""
    calibration = classifier.meta.calibration_at("")
    probabilities = softmax((logits - classifier.adjustment)[np.newaxis] / calibration.temperature)[0]
    flagged = bool(ood_score > calibration.distance_threshold)
    return judge(calibration, confidence=float(probabilities[answer]), flagged=flagged)


def with_file_checks(prediction: Prediction, decoded: Decoded) -> Prediction:
    """The prediction with the checks of the image's file, the notes on its decoding, and which of its slices it is for."""
    checks = check_image(decoded)
    about = {"notes": list(decoded.notes), "slices": decoded.slices, "slice_number": decoded.number}
    return with_checks(prediction, checks).model_copy(update=about)


def check_image(decoded: Decoded) -> list[ImageCheck]:
    """Checks of size, contrast, aspect and colour: what a person should look at before believing a prediction."""
    shorter, longer = sorted((decoded.width, decoded.height))
    grey = decoded.colourfulness <= COLOURFUL
    return [
        ImageCheck(
            name="size",
            passed=shorter >= SMALL_SIDE,
            detail=f"{decoded.width} x {decoded.height} pixels",
        ),
        ImageCheck(
            name="contrast",
            passed=decoded.contrast >= LOW_CONTRAST,
            detail=f"{decoded.contrast:.0f} of 255 grey levels used",
        ),
        ImageCheck(name="aspect", passed=longer / shorter <= UNUSUAL_ASPECT, detail=f"{longer / shorter:.2f} : 1"),
        ImageCheck(name="colour", passed=grey, detail="grey" if grey else "in colour; MRI slices are grey"),
    ]
