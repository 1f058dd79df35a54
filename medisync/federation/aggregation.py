"""Aggregation: from the replies of one training exchange to the new global model, averaged by a Flower strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from medisync.errors import FederationError
from medisync.federation.messages import ARRAYS, METRICS, Exchange
from medisync.federation.plan import RoundPlan
from medisync.federation.strategy import OptimiserState, aggregated_part, is_aggregated, is_robust, optimiser_state
from medisync.federation.update_clipping import UpdateReview, clip, review_updates
from medisync.federation.update_store import in_place, record
from medisync.federation.update_validation import ClientUpdate, Figures, ValidatedUpdates, validate_updates
from medisync.model import adam
from medisync.model.weights import l2_distance
from medisync.schemas import Refusal


@dataclass(frozen=True)
class AggregationResult:
    """The result of a round's aggregation, and all that the rest of the program learns about the updates."""

    arrays: ArrayRecord
    """The new global arrays."""
    optimiser: OptimiserState
    """State of the server's optimiser after the round; empty for strategies without one."""
    means: Mapping[str, float]
    """Training loss, accuracy and seconds, averaged over the images of the hospitals."""
    accepted: Mapping[str, Figures]
    """Reported figures of the hospitals whose updates were aggregated."""
    refused: Sequence[Refusal]
    """Hospitals without an update in the aggregate, with the reason: absent, silent or refused."""
    remarks: Sequence[Refusal]
    """Accepted updates that were unusual, with the consequence."""
    norms: Mapping[str, float]
    """By hospital: L2 distance from the global weights before the round to its weights."""
    drifts: Mapping[str, float]
    """Client drift, by hospital: L2 distance from its weights, clipped if they were, to the new global weights."""


class MissingHospitalsError(FederationError):
    """A round has too few updates and lacks hospitals that did not reply; they may reply when it is repeated."""


def aggregate(strategy: FedAvg, plan: RoundPlan, start: ArrayRecord, training: Exchange) -> AggregationResult:
    """Validates the updates, clips them unless the strategy is robust, and averages them with the strategy.

    `start` holds the global arrays that the hospitals trained from. Flower's strategy sees the weights, and a robust
    one the other floats too. BatchNorm's running statistics are not weights: a variance that has taken a step of a
    server's optimiser may be negative. They are averaged here, weighted by the number of images, and so are the moments
    of the hospitals' Adam where they are shared; of integer buffers, the counters, the largest is taken.

    Raises FederationError if fewer than `plan.min_hospitals` updates are usable; MissingHospitalsError where hospitals
    did not reply.
    """
    validated = validate_updates(training.replies, start, plan.number)
    missing = (*plan.participants.absent, *training.silent)
    _require_enough(validated, missing, plan)
    robust = is_robust(strategy)
    reviews = review_updates(_floats(start), [_floats(update.arrays) for update in validated.accepted])
    updates = validated.accepted if robust else _clip_updates(start, validated.accepted, reviews)
    arrays, means = _average(strategy, plan.number, start, updates)
    return AggregationResult(
        arrays=arrays,
        optimiser=optimiser_state(strategy),
        means={name: float(value) for name, value in means.items()},  # type: ignore[arg-type]
        accepted={update.hospital: update.figures for update in updates},
        refused=[*missing, *validated.refused],
        remarks=_remarks(updates, reviews, clipped=not robust),
        norms={update.hospital: review.norm for update, review in zip(updates, reviews, strict=True)},
        drifts=_drifts(updates, arrays),
    )


def _require_enough(validated: ValidatedUpdates, missing: Sequence[Refusal], plan: RoundPlan) -> None:
    found = len(validated.accepted)
    if found >= plan.min_hospitals:
        return
    reasons = "; ".join(f"{each.hospital}: {each.reason}" for each in (*missing, *validated.refused))
    error = MissingHospitalsError if missing else FederationError
    raise error(
        f"round {plan.number}: {found} usable updates, at least {plan.min_hospitals} are needed"
        f"{f' ({reasons})' if reasons else ''}; the global model is unchanged"
    )


def _clip_updates(
    start: ArrayRecord, updates: Sequence[ClientUpdate], reviews: Sequence[UpdateReview]
) -> list[ClientUpdate]:
    return [_clipped(start, update, review) for update, review in zip(updates, reviews, strict=True)]


def _clipped(start: ArrayRecord, update: ClientUpdate, review: UpdateReview) -> ClientUpdate:
    if not review.scales:
        return update
    shortened = in_place(clip(_floats(start), _floats(update.arrays), review.scales))
    return replace(update, arrays=record({**update.arrays, **shortened}))


def _remarks(updates: Sequence[ClientUpdate], reviews: Sequence[UpdateReview], *, clipped: bool) -> list[Refusal]:
    return [
        Refusal(hospital=update.hospital, reason=remark + ("; it was cut to that" if clipped and review.scales else ""))
        for update, review in zip(updates, reviews, strict=True)
        for remark in review.remarks
    ]


def _average(
    strategy: FedAvg, number: int, start: ArrayRecord, updates: Sequence[ClientUpdate]
) -> tuple[ArrayRecord, MetricRecord]:
    """Returns the new global arrays, in the order and with the dtypes of `start`, and the mean training figures."""
    robust = is_robust(strategy)
    aggregated, means = strategy.aggregate_train(number, [_to_message(update, robust) for update in updates])
    arrays = {key: array.numpy() for key, array in (aggregated or {}).items()}
    arrays |= {key: _merge(key, updates) for key, sent in start.items() if not is_aggregated(key, sent, robust)}
    return in_place({key: arrays[key].astype(sent.dtype) for key, sent in start.items()}), means or MetricRecord()


def _to_message(update: ClientUpdate, robust: bool) -> Message:
    """Returns a message with the part of an update that the strategy aggregates; its address has no meaning.

    The record is a new one because some strategies remove arrays from it; the arrays themselves are shared.
    """
    content = RecordDict({ARRAYS: aggregated_part(update.arrays, robust), METRICS: update.figures.to_record()})
    return Message(content, 0, MessageType.TRAIN)


def _merge(key: str, updates: Sequence[ClientUpdate]) -> NDArray[Any]:
    """Returns the largest counter, or the mean of a running statistic or moment, weighted by the number of images."""
    values = [update.arrays[key].numpy() for update in updates]
    if values[0].dtype.kind == "i":
        return max(values, key=lambda value: value.sum())
    counts = [update.figures.images for update in updates]
    total = sum(count * value.astype(np.float64) for count, value in zip(counts, values, strict=True))
    return np.asarray(total / sum(counts))


def _drifts(updates: Sequence[ClientUpdate], arrays: ArrayRecord) -> dict[str, float]:
    after = _floats(arrays)
    weights = [key for key in after if adam.is_weight(key)]
    return {update.hospital: l2_distance(_floats(update.arrays), after, weights) for update in updates}


def _floats(arrays: ArrayRecord) -> dict[str, NDArray[np.floating]]:
    return {key: array.numpy() for key, array in arrays.items() if array.dtype.startswith("float")}
