"""After the last round: what the hospitals together find out about the global model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from medisync import calibration, evaluation, novelty
from medisync.config import TrainingConfig
from medisync.errors import FederationError
from medisync.evaluation import Totals
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    DISTRIBUTION,
    MOMENTS,
    ROUND,
    TOTALS,
    EvaluateOrder,
    ask,
    from_arrays,
    to_arrays,
)
from medisync.novelty import FeatureDistribution, Moments
from medisync.records import Calibration

log = logging.getLogger(__name__)


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
        replies = self._ask(content, MessageType.EVALUATE, f"evaluated the global model on its {order.split} images")
        return {name: from_arrays(Totals, reply.content.array_records[TOTALS]) for name, reply in replies.items()}

    def describe_features(self, order: EvaluateOrder) -> FeatureDistribution:
        """Where the features of all training images lie. Raises FederationError if no hospital answers."""
        replies = self._ask(self._question(order), MessageType.QUERY, "described its training images")
        moments = (from_arrays(Moments, reply.content.array_records[MOMENTS]) for reply in replies.values())
        return novelty.fit(evaluation.add(moments))

    def _question(self, order: EvaluateOrder) -> RecordDict:
        config = ConfigRecord({**order.to_record(), ROUND: self.round_number})
        return RecordDict({ARRAYS: self.arrays, CONFIG: config})

    def _ask(self, content: RecordDict, message_type: str, deed: str) -> dict[str, Message]:
        questions = [Message(content, node, message_type) for node in self.hospitals]
        exchange = ask(self.grid, questions, self.hospitals, self.deadline)
        answers = {self._name(reply): reply for reply in exchange.replies if reply.has_content()}
        failed = {self._name(reply): str(reply.error.reason) for reply in exchange.replies if reply.has_error()}
        failed |= {refusal.hospital: refusal.reason for refusal in exchange.silent}
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        if not answers:
            raise FederationError(f"no hospital {deed}: {reasons}")
        if failed:
            log.warning("not every hospital %s: %s", deed, reasons)
        return answers

    def _name(self, reply: Message) -> str:
        return self.hospitals[reply.metadata.src_node_id]


def calibrate(hospitals: Assembly, config: TrainingConfig) -> tuple[Calibration, FeatureDistribution]:
    """Fits the distribution to the training images, temperature and thresholds to the validation images."""
    order = EvaluateOrder(config)
    distribution = hospitals.describe_features(order)
    before = evaluation.add(hospitals.collect_totals(order).values())
    temperature = calibration.fit_temperature(before)
    scaled = EvaluateOrder(config, temperature=temperature)
    after = evaluation.add(hospitals.collect_totals(scaled, distribution).values())
    return calibration.summarise(before, after, temperature), distribution
