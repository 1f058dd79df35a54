"""Calibration and evaluation of the global model, after the last round, from sums over each hospital's own images."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from medisync.config import TrainingConfig
from medisync.errors import FederationError, UpdateError
from medisync.evaluation import calibration, ood
from medisync.evaluation.ood import FeatureDistribution, FeatureMoments
from medisync.evaluation.totals import Totals, add_up, tally
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    DISTRIBUTION,
    MOMENTS,
    ROUND,
    STATISTICS,
    TOTALS,
    EvaluateInstructions,
    Reply,
    ask,
    from_arrays,
    to_arrays,
)
from medisync.model import local_batchnorm
from medisync.model.resnet import FEATURES
from medisync.model.weights import State
from medisync.schemas import LABELS, Calibration

log = logging.getLogger(__name__)

Sums = TypeVar("Sums", Totals, FeatureMoments)
Answer = TypeVar("Answer")

NO_IMAGES = np.zeros(0, np.int64), np.zeros((0, len(LABELS))), np.zeros(0, np.int64)
"""Labels, logits and groups of no image."""

SIGNED = ("sums", "products", "confusion_covariance", "rank_covariance", "outcome_covariance")
"""Sums of features and covariances, which may be negative; all other sums are of counts or of non-negative values."""


@dataclass(frozen=True)
class TrainingSummary:
    """A hospital's training images as the global model sees them."""

    moments: FeatureMoments
    statistics: State
    """BatchNorm's running statistics, where every hospital has its own; empty otherwise."""


@dataclass(frozen=True)
class Fitted:
    """Everything that is fitted to training and validation images before the test images are read."""

    calibration: Calibration
    calibration_elsewhere: Calibration | None
    """For scans whose hospital is not known; None where it is the same."""
    distribution: FeatureDistribution
    statistics: dict[str, State]
    """BatchNorm's running statistics by hospital; empty where all hospitals have the same."""
    mean_statistics: State
    """Running statistics for scans from no known hospital; empty where all hospitals have the same."""


@dataclass(frozen=True)
class FederatedEvaluation:
    """The connected hospitals, and the one global model that they evaluate."""

    grid: Grid
    hospitals: Mapping[int, str]
    """Names by Flower node."""
    arrays: ArrayRecord
    round_number: int
    """The round that the model comes from."""
    deadline: float
    """Seconds that a hospital may take for a reply."""

    def collect_totals(
        self, instructions: EvaluateInstructions, distribution: FeatureDistribution | None = None
    ) -> dict[str, Totals]:
        """Returns each hospital's totals for one split, with OOD scores where the distribution is given.

        Raises FederationError if no hospital gives a usable answer.
        """
        content = self._content(instructions)
        if distribution is not None:
            content[DISTRIBUTION] = to_arrays(distribution)
        nothing = tally(*NO_IMAGES)
        task = f"evaluated the global model on its {instructions.split} images"
        return self._collect(content, MessageType.EVALUATE, task, lambda reply: _read_sums(reply, TOTALS, nothing))

    def summarise_training(self, instructions: EvaluateInstructions) -> dict[str, TrainingSummary]:
        """Returns each hospital's summary of its training images. Raises FederationError if no hospital gives one."""
        nothing = ood.feature_moments(NO_IMAGES[0], np.zeros((0, FEATURES)))
        has_own_statistics = instructions.training.normalisation == "local"

        def read(reply: Reply) -> TrainingSummary:
            moments = _read_sums(reply, MOMENTS, nothing)
            return TrainingSummary(moments, _read_statistics(reply) if has_own_statistics else {})

        return self._collect(self._content(instructions), MessageType.QUERY, "described its training images", read)

    def _content(self, instructions: EvaluateInstructions) -> RecordDict:
        config = ConfigRecord({**instructions.to_record(), ROUND: self.round_number})
        return RecordDict({ARRAYS: self.arrays, CONFIG: config})

    def _collect(
        self, content: RecordDict, message_type: str, task: str, read: Callable[[Reply], Answer]
    ) -> dict[str, Answer]:
        """Reads each hospital's reply with `read`; the log names hospitals without a usable one, which are left out."""
        messages = [Message(content, node, message_type) for node in self.hospitals]
        exchange = ask(self.grid, messages, self.hospitals, self.deadline)
        failed = {refusal.hospital: refusal.reason for refusal in exchange.silent}
        found: dict[str, Answer] = {}
        for reply in exchange.replies:
            try:
                found[reply.hospital] = read(reply)
            except UpdateError as error:
                failed[reply.hospital] = str(error)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        if not found:
            raise FederationError(f"no hospital {task}: {reasons}")
        if failed:
            log.warning("not every hospital %s: %s", task, reasons)
        return found


def _read_sums(reply: Reply, name: str, nothing: Sums) -> Sums:
    """Returns the sums in a reply; `nothing`, the sums over no image, has their shapes.

    Raises UpdateError for anything that cannot be a sum over images.
    """
    if reply.error:
        raise UpdateError(reply.error)
    try:
        sums = from_arrays(type(nothing), reply.content.array_records[name])
    except (KeyError, ValueError, TypeError) as error:
        raise UpdateError(f"its {name} cannot be read ({type(error).__name__}: {error})") from None
    for field in fields(nothing):
        expected, values = getattr(nothing, field.name), getattr(sums, field.name)
        if values.shape != expected.shape or values.dtype.kind not in "iuf":
            raise UpdateError(
                f"its {field.name} is {values.dtype} {list(values.shape)}, expected {list(expected.shape)}"
            )
        if not np.isfinite(values).all() or (field.name not in SIGNED and (values < 0).any()):
            raise UpdateError(f"its {field.name} cannot be a sum over images: it holds negative or infinite values")
    return sums


def _read_statistics(reply: Reply) -> State:
    """Returns BatchNorm's running statistics. Raises UpdateError for anything that cannot be them."""
    try:
        found = reply.content.array_records[STATISTICS].to_torch_state_dict()
    except (KeyError, ValueError, TypeError) as error:
        raise UpdateError(f"its {STATISTICS} cannot be read ({type(error).__name__}: {error})") from None
    if problem := local_batchnorm.find_statistics_problem(found):
        raise UpdateError(f"its {STATISTICS} do not fit: {problem}")
    return found


def calibrate(evaluation: FederatedEvaluation, config: TrainingConfig) -> Fitted:
    """Fits the feature distribution to the training images, temperature and thresholds to the validation images."""
    instructions = EvaluateInstructions(config, detail="totals")
    summaries = evaluation.summarise_training(instructions)
    moments = add_up(each.moments for each in summaries.values())
    if not moments.counts.any():
        raise FederationError(
            "no hospital has enough training images of any class to fit the OOD score; at least 3 are needed"
        )
    distribution = ood.fit_distribution(moments)
    own = _fit(evaluation, instructions, distribution)
    elsewhere = replace(instructions, own_prior=False)
    statistics = {name: each.statistics for name, each in summaries.items() if each.statistics}
    images = {name: float(each.moments.counts.sum()) for name, each in summaries.items()}
    return Fitted(
        calibration=own,
        calibration_elsewhere=_fit(evaluation, elsewhere, distribution) if config.missing_class_prior < 1 else None,
        distribution=distribution,
        statistics=statistics,
        mean_statistics=local_batchnorm.average_statistics(statistics, images),
    )


def _fit(
    evaluation: FederatedEvaluation, instructions: EvaluateInstructions, distribution: FeatureDistribution
) -> Calibration:
    """Fits temperature and thresholds to the validation images as these instructions have them predicted."""
    before = add_up(evaluation.collect_totals(instructions, distribution).values())
    temperature, threshold = calibration.fit_temperature(before), calibration.fit_ood_threshold(before)
    scaled = replace(instructions, temperature=temperature, ood_threshold=threshold)
    after = add_up(evaluation.collect_totals(scaled, distribution).values())
    return calibration.summarise(before, after, temperature, threshold)
