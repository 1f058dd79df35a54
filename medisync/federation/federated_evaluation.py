"""After the last round: what the hospitals together find out about the global model."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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
    EvaluateOrder,
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
Found = TypeVar("Found")

NO_IMAGES = np.zeros(0, np.int64), np.zeros((0, len(LABELS))), np.zeros(0, np.int64)
"""Labels, logits and groups."""

SIGNED = ("sums", "products")
"""Sums of features, which may be negative; all else counts or adds up what is not."""


@dataclass(frozen=True)
class Description:
    """Of a hospital's training images, under the global model."""

    moments: FeatureMoments
    statistics: State
    """BatchNorm's, where every hospital has its own; empty otherwise."""


@dataclass(frozen=True)
class Fitted:
    """What the hospitals together found out about the global model before the test images were read."""

    calibration: Calibration
    distribution: FeatureDistribution
    statistics: dict[str, State]
    """By hospital; empty where all hospitals have the same."""
    elsewhere: State
    """The statistics for scans from no known hospital; empty where all have the same."""


@dataclass(frozen=True)
class Assembly:
    """All hospitals, and the one global model that they are asked about."""

    grid: Grid
    hospitals: Mapping[int, str]
    """Their names by node."""
    arrays: ArrayRecord
    round_number: int
    """The round that the model is of."""
    deadline: float
    """Seconds that a hospital may take for an answer."""

    def collect_totals(
        self, order: EvaluateOrder, distribution: FeatureDistribution | None = None
    ) -> dict[str, Totals]:
        """Each hospital's totals for one split, with distances where the distribution is given.

        Raises FederationError if no hospital answers.
        """
        content = self._question(order)
        if distribution is not None:
            content[DISTRIBUTION] = to_arrays(distribution)
        nothing = tally(*NO_IMAGES, replicates=order.replicates)
        deed = f"evaluated the global model on its {order.split} images"
        return self._collect(content, MessageType.EVALUATE, deed, lambda answer: _read(answer, TOTALS, nothing))

    def describe(self, order: EvaluateOrder) -> dict[str, Description]:
        """What each hospital says of its training images. Raises FederationError if no hospital answers."""
        nothing = ood.feature_moments(NO_IMAGES[0], np.zeros((0, FEATURES)))
        own = order.training.normalisation == "local"

        def read(answer: Message) -> Description:
            return Description(_read(answer, MOMENTS, nothing), _read_statistics(answer) if own else {})

        return self._collect(self._question(order), MessageType.QUERY, "described its training images", read)

    def _question(self, order: EvaluateOrder) -> RecordDict:
        config = ConfigRecord({**order.to_record(), ROUND: self.round_number})
        return RecordDict({ARRAYS: self.arrays, CONFIG: config})

    def _collect(
        self, content: RecordDict, message_type: str, deed: str, read: Callable[[Message], Found]
    ) -> dict[str, Found]:
        """What `read` makes of each hospital's answer; a hospital without a usable one is named in the log and left out."""
        questions = [Message(content, node, message_type) for node in self.hospitals]
        exchange = ask(self.grid, questions, self.hospitals, self.deadline)
        failed = {refusal.hospital: refusal.reason for refusal in exchange.silent}
        found: dict[str, Found] = {}
        for reply in exchange.replies:
            try:
                found[self._name(reply)] = read(reply)
            except UpdateError as error:
                failed[self._name(reply)] = str(error)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        if not found:
            raise FederationError(f"no hospital {deed}: {reasons}")
        if failed:
            log.warning("not every hospital %s: %s", deed, reasons)
        return found

    def _name(self, reply: Message) -> str:
        return self.hospitals[reply.metadata.src_node_id]


def _read(answer: Message, name: str, nothing: Sums) -> Sums:
    """The sums in an answer. Raises UpdateError for what cannot be sums: `nothing`, the sums of no image, says their shapes."""
    if answer.has_error():
        raise UpdateError(str(answer.error.reason))
    try:
        sums = from_arrays(type(nothing), answer.content.array_records[name])
    except (KeyError, ValueError, TypeError) as error:
        raise UpdateError(f"its {name} cannot be read ({type(error).__name__}: {error})") from None
    for field in fields(nothing):
        expected, values = getattr(nothing, field.name), getattr(sums, field.name)
        if values.shape != expected.shape or values.dtype.kind not in "iuf":
            raise UpdateError(
                f"its {field.name} is {values.dtype} {list(values.shape)}, expected {list(expected.shape)}"
            )
        if not np.isfinite(values).all() or (field.name not in SIGNED and (values < 0).any()):
            raise UpdateError(f"its {field.name} holds what cannot be a sum over images: not finite, or negative")
    return sums


def _read_statistics(answer: Message) -> State:
    """Raises UpdateError for what cannot be BatchNorm's statistics."""
    try:
        found = answer.content.array_records[STATISTICS].to_torch_state_dict()
    except (KeyError, ValueError, TypeError) as error:
        raise UpdateError(f"its {STATISTICS} cannot be read ({type(error).__name__}: {error})") from None
    if problem := local_batchnorm.find_statistics_problem(found):
        raise UpdateError(f"its {STATISTICS} do not fit: {problem}")
    return found


def calibrate(hospitals: Assembly, config: TrainingConfig) -> Fitted:
    """Fits the distribution to the training images, temperature and thresholds to the validation images."""
    order = EvaluateOrder(config)
    described = hospitals.describe(order)
    distribution = ood.fit_distribution(add_up(each.moments for each in described.values()))
    before = add_up(hospitals.collect_totals(order).values())
    temperature = calibration.fit_temperature(before)
    scaled = EvaluateOrder(config, temperature=temperature)
    after = add_up(hospitals.collect_totals(scaled, distribution).values())
    statistics = {name: each.statistics for name, each in described.items() if each.statistics}
    images = {name: float(each.moments.counts.sum()) for name, each in described.items()}
    return Fitted(
        calibration=calibration.summarise(before, after, temperature),
        distribution=distribution,
        statistics=statistics,
        elsewhere=local_batchnorm.average_statistics(statistics, images),
    )
