"""Every update is looked at before it may enter an aggregate."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from medisync.errors import FederationError, UpdateError
from medisync.federation import update_clipping, update_store
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, TRAIN_METRICS
from medisync.model import adam
from medisync.model.weights import find_problem, l2_distance
from medisync.schemas import Refusal

MAX_IMAGES = 10_000_000
"""More images than any hospital has; a larger count is a mistake or an attempt to own the average."""


class Screened(FedAvg):
    """What every strategy of ours does before and after Flower's own aggregation.

    An update with other keys, shapes or dtypes than the global weights, values that are not finite, a count that is no
    positive whole number, or of another round, is refused by name, and the round goes on. `accepted`, `refused`, `norms`, how
    far each accepted update went from the global weights, and `drifts`, how far it is from what they became together, are the
    last round's. Updates wait for each other in `room`. FederationError if
    fewer than `min_hospitals` updates are left. An update that is far longer than the others is cut to the median length,
    except by robust strategies, which judge that themselves; `remarks` names it for every strategy.

    Flower's strategy sees the weights. BatchNorm's running statistics are no weights: a variance that has taken a step of
    a server's optimiser may be negative, and the variance of all images is not the mean of the hospitals' variances. They
    are pooled here, weighted by count, and so are the moments of the hospitals' Adam where they are shared, except by robust
    strategies, which must judge both too. Integer buffers are never averaged: the largest is kept.
    """

    robust = False

    def __init__(
        self,
        hospitals: Mapping[int, str],
        min_hospitals: int,
        participation: float,
        **options: Any,
    ) -> None:
        super().__init__(
            fraction_train=participation,
            min_train_nodes=min(min_hospitals, len(hospitals)),
            min_evaluate_nodes=1,
            min_available_nodes=1,
            weighted_by_key=COUNT,
            **options,
        )
        self.hospitals = hospitals
        self.min_hospitals = min_hospitals
        self.update_store = update_store.UpdateStore()
        self.missing: Sequence[Refusal] = ()
        """Hospitals that no update can come from in this round, and why."""
        self.accepted: list[Message] = []
        self.refused: list[Refusal] = []
        self.remarks: list[Refusal] = []
        self.norms: dict[str, float] = {}
        self.drifts: dict[str, float] = {}
        self._global = ArrayRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._global = arrays
        self.accepted = []  # the updates of the last round leave the room for those of this one
        messages: list[Message] = list(super().configure_train(server_round, self._aggregated(arrays), config, grid))
        for message in messages:
            message.content[ARRAYS] = arrays
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord | None]:
        self.screen(server_round, replies)
        if len(self.accepted) < self.min_hospitals:
            without = (*self.missing, *self.refused)
            reasons = "; ".join(f"{refusal.hospital}: {refusal.reason}" for refusal in without)
            raise FederationError(
                f"round {server_round}: {len(self.accepted)} usable updates, at least {self.min_hospitals} are needed"
                f"{f' ({reasons})' if reasons else ''}; the global model stays as it was"
            )
        updates = self._judged([reply.content.array_records[ARRAYS] for reply in self.accepted])
        counts = [int(reply.content.metric_records[METRICS][COUNT]) for reply in self.accepted]  # type: ignore[arg-type]
        for reply, update in zip(self.accepted, updates, strict=True):
            reply.content[ARRAYS] = self._aggregated(update)
        aggregate, metrics = super().aggregate_train(server_round, self.accepted)
        kept = {key: self._merge(key, updates, counts) for key in self._global if not self._is_aggregated(key)}
        merged = {**{key: array.numpy() for key, array in (aggregate or {}).items()}, **kept}
        together = update_store.in_place({key: merged[key].astype(sent.dtype) for key, sent in self._global.items()})
        ended = _floats(together)
        weights = [key for key in ended if adam.is_weight(key)]
        named = zip(map(self.name, self.accepted), updates, strict=True)
        self.drifts = {name: l2_distance(_floats(update), ended, weights) for name, update in named}
        return together, metrics

    def _judged(self, updates: list[ArrayRecord]) -> list[ArrayRecord]:
        """The updates as they may enter the aggregate; what is odd about them goes to `remarks`."""
        start = _floats(self._global)
        judgements = update_clipping.judge(start, [_floats(update) for update in updates])
        self.norms = {self.name(reply): judged.length for reply, judged in zip(self.accepted, judgements, strict=True)}
        self.remarks = [
            Refusal(hospital=self.name(reply), reason=remark + self._consequence(judged))
            for reply, judged in zip(self.accepted, judgements, strict=True)
            for remark in judged.remarks
        ]
        if self.robust:
            return updates
        return [
            update
            if not judged.shares
            else update_store.record(
                {**update, **update_store.in_place(update_clipping.shorten(start, _floats(update), judged.shares))}
            )
            for update, judged in zip(updates, judgements, strict=True)
        ]

    def _consequence(self, judged: update_clipping.Judgement) -> str:
        return "; it was cut to that" if judged.shares and not self.robust else ""

    def _is_aggregated(self, key: str) -> bool:
        whole = self._global[key].dtype.startswith("int")
        return not whole and (self.robust or adam.is_weight(key))

    def _aggregated(self, arrays: ArrayRecord) -> ArrayRecord:
        """What Flower's strategy gets to see of the weights."""
        return update_store.record({key: array for key, array in arrays.items() if self._is_aggregated(key)})

    def _merge(self, key: str, updates: list[ArrayRecord], counts: list[int]) -> NDArray[Any]:
        """A buffer of several updates: the largest counter, or the statistic or moment of all their images together.

        By the law of total variance the variance of all is the mean of the variances plus the variance of the means.
        """
        values = (update[key].numpy() for update in updates)
        if updates[0][key].dtype.startswith("int"):
            return max(values, key=lambda value: value.sum())
        merged = sum(count * value.astype(np.float64) for count, value in zip(counts, values, strict=True)) / sum(
            counts
        )
        return np.asarray(merged)

    def screen(self, server_round: int, replies: Iterable[Message]) -> None:
        """Sorts the replies into `accepted`, in the order of the hospitals' names, and `refused`."""
        self.accepted, self.refused, self.remarks = [], [], []
        for reply in sorted(replies, key=self.name):
            try:
                self._check(server_round, reply)
                self.accepted.append(reply)
            except UpdateError as error:
                self.refused.append(Refusal(hospital=self.name(reply), reason=str(error)))

    def screen_answers(self, replies: Iterable[Message]) -> tuple[list[Message], list[Refusal]]:
        """The answers to an evaluation that can be averaged, and why the others cannot."""
        usable, refused = [], []
        for reply in replies:
            try:
                if reply.has_error():
                    raise UpdateError(reply.error.reason)
                _check_scores(reply)
                usable.append(reply)
            except UpdateError as error:
                refused.append(Refusal(hospital=self.name(reply), reason=f"did not evaluate: {error}"))
        return usable, refused

    def name(self, reply: Message) -> str:
        """The hospital that a reply comes from: by its node, whatever the reply says."""
        node = reply.metadata.src_node_id
        return self.hospitals.get(node, f"node {node}")

    def _check(self, server_round: int, reply: Message) -> None:
        if reply.has_error():
            raise UpdateError(f"did not finish its work: {reply.error.reason}")
        content = reply.content
        if set(content) != {ARRAYS, METRICS, CONFIG} or not content.array_records.keys() == {ARRAYS}:
            raise UpdateError(
                f"expected the records {ARRAYS}, {METRICS} and {CONFIG}, got {', '.join(sorted(content))}"
            )
        if (answered := content.config_records[CONFIG].get(ROUND)) != server_round:
            raise UpdateError(f"answers round {answered!r}, this is {server_round}")
        if reply.metadata.src_node_id in {earlier.metadata.src_node_id for earlier in self.accepted}:
            raise UpdateError("a second update in the same round")
        _check_metrics(content.metric_records[METRICS])
        _check_arrays(content.array_records[ARRAYS], self._global)


def _check_metrics(metrics: MetricRecord) -> None:
    count = metrics.get(COUNT)
    if not isinstance(count, int) or not 0 < count <= MAX_IMAGES:
        raise UpdateError(f"{COUNT} is {count!r}, expected a whole number from 1 to {MAX_IMAGES}")
    for name in TRAIN_METRICS:
        value = metrics.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UpdateError(f"its metric {name} is {value!r}, expected a finite number")


def _check_scores(reply: Message) -> None:
    if METRICS not in reply.content.metric_records:
        raise UpdateError(f"its answer has no record {METRICS}")
    metrics = reply.content.metric_records[METRICS]
    count, loss, accuracy = (metrics.get(name) for name in (COUNT, "loss", "accuracy"))
    if not isinstance(count, int) or not 0 <= count <= MAX_IMAGES:
        raise UpdateError(f"{COUNT} is {count!r}, expected a whole number up to {MAX_IMAGES}")
    if not isinstance(loss, int | float) or not math.isfinite(loss):
        raise UpdateError(f"its loss is {loss!r}, expected a finite number")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise UpdateError(f"its accuracy is {accuracy!r}, expected a number from 0 to 1")


def _floats(arrays: ArrayRecord) -> dict[str, NDArray[np.floating]]:
    return {key: array.numpy() for key, array in arrays.items() if array.dtype.startswith("float")}


def _check_arrays(found: ArrayRecord, expected: ArrayRecord) -> None:
    try:
        state = found.to_torch_state_dict()
    except (ValueError, TypeError, KeyError, EOFError, OSError) as error:
        raise UpdateError(f"its arrays cannot be read: {error}") from None
    if problem := find_problem(state, expected.to_torch_state_dict()) or adam.find_moment_problem(state):
        raise UpdateError(problem)
    for key, tensor in state.items():
        if key.endswith("running_var") and bool((tensor < 0).any()):
            raise UpdateError(f"{key} holds a negative variance")
