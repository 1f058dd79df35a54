"""The broadcast: the global arrays as every hospital has them, and how hospitals that have the last ones come to them.

With `TRANSPORT = "compact"` the server sends the change since the last round, rounded. What it calls its global model is
what hospitals make of that, so whatever is evaluated, recorded and published is the model that they trained from. What
rounding held back is part of what the server means next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from medisync.federation import changes
from medisync.federation.changes import Arrays
from medisync.federation.messages import ARRAYS, CHANGE, CONFIG, digest, to_values
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

    def to_record(self) -> ConfigRecord:
        return ConfigRecord({"base": self.base, "name": self.name, "block": self.block, "moments": self.moments})

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


def announce(before: Broadcast, meant: ArrayRecord, moment_rounds: int) -> Broadcast:
    """Returns the broadcast after a round whose aggregate is `meant`, rounded as hospitals will have it.

    Second moments are handed on if `moment_rounds` is not 0. It is the number of rounds since they last were: as many
    steps as hospitals then took are behind the new ones, with squares like those of this round.
    """
    start, moments = to_values(before.arrays), moment_rounds > 0
    target = _with_errors({**to_values(meant), **_caught_up(start, to_values(meant), moment_rounds)}, before.errors)
    block = changes.encode(start, target, moments=moments)
    after = changes.decode(block, start, moments=moments)
    errors = {key: target[key] - after[key] for key in after if _is_rounded(key, after[key])}
    base = before.change.name if before.change else digest(before.arrays)
    arrays = in_place(after)
    return Broadcast(arrays, errors, Change(base, digest(arrays), block, moments))


def _with_errors(meant: Arrays, errors: Errors) -> Arrays:
    """Returns what the server means in all: no second moment is below 0."""
    target = {**meant, **{key: meant[key] + error for key, error in errors.items()}}
    squares = (key for key in errors if key.startswith(adam.SECOND))
    return target | {key: np.maximum(target[key], np.float32(0)) for key in squares}


def _caught_up(start: Arrays, meant: Arrays, rounds: int) -> Arrays:
    """Returns the second moments, and their number of steps, as if every one of the rounds had been like the last one."""
    if rounds < 2:
        return {}
    steps = int(meant[adam.STEPS]) - int(start[adam.STEPS])
    once, all_rounds = (np.float32(adam.BETAS[1] ** taken) for taken in (steps, steps * rounds))
    share = (np.float32(1) - all_rounds) / (np.float32(1) - once)
    keys = [key for key in start if key.startswith(adam.SECOND)]
    seconds = {key: all_rounds * start[key] + share * (meant[key] - once * start[key]) for key in keys}
    return {**seconds, adam.STEPS: start[adam.STEPS] + np.int64(steps * rounds)}


def _is_rounded(key: str, array: NDArray[np.generic]) -> bool:
    return array.dtype == np.float32 and (adam.is_weight(key) or key.startswith(adam.SECOND))
