"""Update validation: every reply of a hospital is checked before it may enter an average."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, MetricRecord

from medisync.errors import UpdateError
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, Reply
from medisync.model import adam
from medisync.model.weights import find_problem
from medisync.schemas import Refusal

MAX_IMAGES = 10_000_000
"""More images than any hospital has; a larger count is a mistake or an attempt to dominate the average."""


@dataclass(frozen=True)
class Figures:
    """A hospital's reported figures for its training or validation images."""

    images: int
    loss: float
    """Mean over the images."""
    accuracy: float
    seconds: float = 0.0
    """Duration of training; 0 for a validation."""

    def to_record(self) -> MetricRecord:
        """Returns the record that Flower's strategies weight by COUNT and average."""
        figures = {COUNT: self.images, "loss": self.loss, "accuracy": self.accuracy, "seconds": self.seconds}
        return MetricRecord(figures)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ClientUpdate:
    """A hospital's validated update: its weights after training, with the figures that it reports."""

    hospital: str
    arrays: ArrayRecord
    """With the keys, shapes and dtypes of the global arrays."""
    figures: Figures


@dataclass(frozen=True)
class ValidatedUpdates:
    """The replies of a training exchange, sorted into updates that may be aggregated and refusals."""

    accepted: Sequence[ClientUpdate]
    """In the order of the hospitals' names."""
    refused: Sequence[Refusal]


@dataclass(frozen=True)
class ValidatedScores:
    """The replies of a validation exchange, sorted into scores that may be averaged and refusals."""

    accepted: Mapping[str, Figures]
    """By hospital, in the order of their names."""
    refused: Sequence[Refusal]

    def with_images(self) -> dict[str, Figures]:
        """Returns the scores of hospitals that have validation images."""
        return {name: figures for name, figures in self.accepted.items() if figures.images}


def validate_updates(replies: Iterable[Reply], global_arrays: ArrayRecord, round_number: int) -> ValidatedUpdates:
    """Refuses every update that must not be aggregated, naming the hospital and the reason; the others are accepted.

    Refused are: an error in place of an update, another round's update, a hospital's second update, other keys, shapes
    or dtypes than those of the global arrays, values that are not finite, a negative variance, moments that no Adam can
    have, a count that is not a positive whole number.
    """
    accepted: dict[str, ClientUpdate] = {}
    refused: list[Refusal] = []
    for reply in sorted(replies, key=lambda reply: reply.hospital):
        try:
            _require_reply_to_round(reply, round_number)
            if reply.hospital in accepted:
                raise UpdateError("a second update in the same round")
            accepted[reply.hospital] = _read_update(reply, global_arrays)
        except UpdateError as error:
            refused.append(Refusal(hospital=reply.hospital, reason=str(error)))
    return ValidatedUpdates(list(accepted.values()), refused)


def validate_scores(replies: Iterable[Reply]) -> ValidatedScores:
    """Refuses every validation result that cannot be averaged, naming the hospital and the reason."""
    accepted: dict[str, Figures] = {}
    refused: list[Refusal] = []
    for reply in replies:
        try:
            accepted[reply.hospital] = _read_scores(reply)
        except UpdateError as error:
            refused.append(Refusal(hospital=reply.hospital, reason=f"did not evaluate: {error}"))
    return ValidatedScores(accepted, refused)


def _read_update(reply: Reply, global_arrays: ArrayRecord) -> ClientUpdate:
    figures = _read_training_figures(reply.content.metric_records[METRICS])
    arrays = reply.content.array_records[ARRAYS]
    _check_arrays(arrays, global_arrays)
    return ClientUpdate(reply.hospital, arrays, figures)


def _require_reply_to_round(reply: Reply, round_number: int) -> None:
    """Raises UpdateError unless the reply has the records of an update for this round."""
    if reply.error:
        raise UpdateError(f"did not finish its work: {reply.error}")
    content = reply.content
    found = [*content.array_records, *content.metric_records, *content.config_records]
    if (
        found != [ARRAYS, METRICS, CONFIG]
        or ARRAYS not in content.array_records
        or CONFIG not in content.config_records
    ):
        raise UpdateError(f"expected the records {ARRAYS}, {METRICS} and {CONFIG}, got {', '.join(sorted(content))}")
    if (answered := content.config_records[CONFIG].get(ROUND)) != round_number:
        raise UpdateError(f"answers round {answered!r}, this is {round_number}")


def _read_training_figures(metrics: MetricRecord) -> Figures:
    count, loss, accuracy, seconds = (metrics.get(name) for name in (COUNT, "loss", "accuracy", "seconds"))
    if not isinstance(count, int) or not 0 < count <= MAX_IMAGES:
        raise UpdateError(f"{COUNT} is {count!r}, expected a whole number from 1 to {MAX_IMAGES}")
    for name, value in (("loss", loss), ("seconds", seconds)):
        if not _is_finite(value):
            raise UpdateError(f"its metric {name} is {value!r}, expected a finite number")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise UpdateError(f"its metric accuracy is {accuracy!r}, expected a number from 0 to 1")
    return Figures(count, loss, accuracy, seconds)  # type: ignore[arg-type]


def _read_scores(reply: Reply) -> Figures:
    if reply.error:
        raise UpdateError(reply.error)
    if METRICS not in reply.content.metric_records:
        raise UpdateError(f"its answer has no record {METRICS}")
    metrics = reply.content.metric_records[METRICS]
    count, loss, accuracy = (metrics.get(name) for name in (COUNT, "loss", "accuracy"))
    if not isinstance(count, int) or not 0 <= count <= MAX_IMAGES:
        raise UpdateError(f"{COUNT} is {count!r}, expected a whole number up to {MAX_IMAGES}")
    if not _is_finite(loss):
        raise UpdateError(f"its loss is {loss!r}, expected a finite number")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise UpdateError(f"its accuracy is {accuracy!r}, expected a number from 0 to 1")
    return Figures(count, loss, accuracy)  # type: ignore[arg-type]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_arrays(found: ArrayRecord, expected: ArrayRecord) -> None:
    """Raises UpdateError, naming the key, unless the arrays can stand in for the expected ones."""
    try:
        state = found.to_torch_state_dict()
    except (ValueError, TypeError, KeyError, EOFError, OSError) as error:
        raise UpdateError(f"its arrays cannot be read: {error}") from None
    if problem := find_problem(state, expected.to_torch_state_dict()) or adam.find_moment_problem(state):
        raise UpdateError(problem)
    for key, tensor in state.items():
        if key.endswith("running_var") and bool((tensor < 0).any()):
            raise UpdateError(f"{key} holds a negative variance")
