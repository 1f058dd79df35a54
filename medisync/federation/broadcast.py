"""The broadcast: the global arrays as every hospital has them, and how hospitals that have the last ones come to them.

With `TRANSPORT = "compact"` the server sends the change since the last round, rounded. What it calls its global model is
what hospitals make of that, so whatever is evaluated, recorded and published is the model that they trained from. What
rounding held back is part of what the server means next.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from medisync.federation import changes
from medisync.federation.changes import Arrays, Momentum
from medisync.federation.messages import ARRAYS, CHANGE, CONFIG, TrainInstructions, digest, to_values
from medisync.federation.plan import RoundPlan
from medisync.federation.update_store import in_place
from medisync.model import adam

Errors = Mapping[str, NDArray[np.float32]]
"""By key: the value that the server means minus the one that hospitals have; empty before anything was rounded."""


@dataclass(frozen=True)
class Change:
    """What a hospital is sent that has the arrays before."""

    base: str
    """SHA-256 of the arrays before."""
    name: str
    """SHA-256 of the arrays after."""
    block: bytes
    """What `changes.decode` turns the ones into the others with."""
    moments: bool
    """Whether second moments are part of it."""
    momentum: bool
    """Whether first moments follow from it."""

    def to_record(self) -> ConfigRecord:
        return ConfigRecord(vars(self))

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "Change":
        return cls(**record)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Broadcast:
    """The global arrays between two rounds."""

    arrays: ArrayRecord
    """As every hospital has them after the next message."""
    errors: Errors = field(default_factory=dict)
    change: Change | None = None
    """None where hospitals are sent the whole arrays."""

    def to_content(self, config: ConfigRecord) -> RecordDict:
        """Returns what is sent to every hospital: to each as much of it as it does not have yet."""
        content = RecordDict({ARRAYS: self.arrays, CONFIG: config})
        if self.change:
            content[CHANGE] = self.change.to_record()
        return content


def announce(before: Broadcast, meant: ArrayRecord, plan: RoundPlan) -> Broadcast:
    """Returns the broadcast after a round whose aggregate is `meant`, rounded as hospitals will have it.

    Second moments are handed on if `plan.moment_rounds` is not 0. It is the number of rounds since they last were: as
    many steps as hospitals then took are behind the new ones, with squares like those of this round.
    """
    start, moments = to_values(before.arrays), plan.moment_rounds > 0
    caught_up = _caught_up(start, to_values(meant), plan.moment_rounds)
    target = _with_errors({**to_values(meant), **caught_up}, before.errors)
    momentum = _momentum(start, to_values(meant), target, plan.instructions) if adam.STEPS in start else None
    block = changes.encode(start, target, moments=moments, momentum=momentum)
    after = changes.decode(block, start, moments=moments, momentum=momentum is not None)
    errors = {key: target[key] - after[key] for key in after if _is_rounded(key, after[key])}
    base = before.change.name if before.change else digest(before.arrays)
    arrays = in_place(after)
    return Broadcast(arrays, errors, Change(base, digest(arrays), block, moments, momentum is not None))


def _momentum(start: Arrays, meant: Arrays, target: Arrays, instructions: TrainInstructions) -> Momentum:
    """Returns how first moments follow from the change of a round.

    A round's change is -lr * (m' / sqrt(v') + decay * w) for each of its steps, with m' and v' corrected for the steps
    behind them.
    """
    taken, behind = int(meant[adam.STEPS]) - int(start[adam.STEPS]), max(1, int(target[adam.STEPS]))
    corrected = (1 - adam.BETAS[0] ** behind) / math.sqrt(1 - adam.BETAS[1] ** behind)
    rate = instructions.learning_rate * max(1, taken)
    return Momentum(-corrected / rate, corrected * instructions.training.weight_decay)


def _with_errors(meant: Arrays, errors: Errors) -> Arrays:
    """Returns what the server means in all: no second moment is below 0."""
    target = {**meant, **{key: meant[key] + error for key, error in errors.items()}}
    squares = (key for key in errors if key.startswith(adam.SECOND))
    return target | {key: np.maximum(target[key], np.float32(0)) for key in squares}


def _caught_up(start: Arrays, meant: Arrays, rounds: int) -> Arrays:
    """Returns the second moments, and their number of steps, as if every one of the rounds had been like the last one.

    In rounds in which they are not handed on, both stay as they were.
    """
    if adam.STEPS not in start or rounds == 1:
        return {}
    if rounds == 0:
        return {adam.STEPS: start[adam.STEPS]}
    steps = int(meant[adam.STEPS]) - int(start[adam.STEPS])
    once, all_rounds = (np.float32(adam.BETAS[1] ** taken) for taken in (steps, steps * rounds))
    share = (np.float32(1) - all_rounds) / (np.float32(1) - once)
    keys = [key for key in start if key.startswith(adam.SECOND)]
    seconds = {key: all_rounds * start[key] + share * (meant[key] - once * start[key]) for key in keys}
    return {**seconds, adam.STEPS: start[adam.STEPS] + np.int64(steps * rounds)}


def _is_rounded(key: str, array: NDArray[np.generic]) -> bool:
    return array.dtype == np.float32 and (adam.is_weight(key) or key.startswith(adam.SECOND))
