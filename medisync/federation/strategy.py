"""Federated averaging that looks at every update before it lets it into the average."""

import math
from collections.abc import Iterable, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from medisync.errors import FederationError, UpdateError
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, TRAIN_METRICS
from medisync.model import find_problem
from medisync.records import Refusal

MAX_IMAGES = 10_000_000
"""More images than any hospital has; a larger count is a mistake or an attempt to own the average."""


class CheckedFedAvg(FedAvg):
    """w = sum_k n_k w_k / sum_k n_k over the updates that pass, McMahan et al. 2017, https://arxiv.org/abs/1602.05629.

    BatchNorm's running statistics are averaged like weights; integer buffers are never averaged: the largest is kept.
    An update with other keys, shapes or dtypes than the global weights, values that are not finite, a count that is no
    positive whole number, or of another round, is refused by name, and the round goes on. `accepted` and `refused` are
    the last round's. FederationError if fewer than `min_hospitals` updates are left.
    """

    def __init__(self, min_hospitals: int, hospitals: Mapping[int, str]) -> None:
        everyone = len(hospitals)
        super().__init__(
            min_train_nodes=everyone, min_evaluate_nodes=everyone, min_available_nodes=everyone, weighted_by_key=COUNT
        )
        self.hospitals = hospitals
        self.min_hospitals = min_hospitals
        self.accepted: list[Message] = []
        self.refused: list[Refusal] = []
        self._global = ArrayRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._global = arrays
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord | None]:
        self.screen(server_round, replies)
        if len(self.accepted) < self.min_hospitals:
            reasons = "; ".join(f"{refusal.hospital}: {refusal.reason}" for refusal in self.refused)
            raise FederationError(
                f"round {server_round}: {len(self.accepted)} usable updates, at least {self.min_hospitals} are needed"
                f"{f' ({reasons})' if reasons else ''}; the global model stays as it was"
            )
        average, metrics = super().aggregate_train(server_round, self.accepted)
        return _keep_integers(average or ArrayRecord(), self.accepted), metrics

    def screen(self, server_round: int, replies: Iterable[Message]) -> None:
        """Sorts the replies into `accepted`, in the order of their nodes, and `refused`."""
        self.accepted, self.refused = [], []
        for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id):
            try:
                self._check(server_round, reply)
                self.accepted.append(reply)
            except UpdateError as error:
                self.refused.append(Refusal(hospital=self.name(reply), reason=str(error)))

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


def _check_arrays(found: ArrayRecord, expected: ArrayRecord) -> None:
    try:
        state = found.to_torch_state_dict()
    except (ValueError, TypeError, KeyError, EOFError, OSError) as error:
        raise UpdateError(f"its arrays cannot be read: {error}") from None
    if problem := find_problem(state, expected.to_torch_state_dict()):
        raise UpdateError(problem)


def _keep_integers(average: ArrayRecord, accepted: list[Message]) -> ArrayRecord:
    """Flower averages every key, which turns BatchNorm's batch counters into floats."""
    updates = [reply.content.array_records[ARRAYS] for reply in accepted]
    whole = [key for key, array in updates[0].items() if array.dtype.startswith("int")]
    kept = {
        key: Array(max((update[key].numpy() for update in updates), key=lambda array: array.sum())) for key in whole
    }
    return ArrayRecord({**average, **kept})
