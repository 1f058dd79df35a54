"""What is odd about an update that is well formed: its length and its direction, judged against the others of the round.

Nobody can tell a hostile hospital from an unusual one by its update alone, so nothing is refused here. A length that would
own the average is cut to the median one; the rest is said, for a person to look at.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.model import is_statistic

Floats = Mapping[str, NDArray[np.floating]]
"""Arrays by key: weights and statistics, or what an update changes of them."""

OUTSIZED = 3.0
"""Times the median length. Honest hospitals of three real collections stayed below 1.5 in every one of 48 rounds."""

OPPOSED = -0.01
"""Cosine of an update with the mean direction of the others."""


@dataclass(frozen=True)
class Judgement:
    """One update beside the others: by how much its weights and its statistics are to be shortened, and why."""

    weights: float = 1.0
    statistics: float = 1.0
    remarks: tuple[str, ...] = ()

    @property
    def clips(self) -> bool:
        return self.weights < 1 or self.statistics < 1


def judge(start: Floats, updates: Sequence[Floats]) -> list[Judgement]:
    """One judgement per update, all of the keys of `start`. Below three there is no majority, so nothing is said.

    Bounding the length: Sun et al. 2019, https://arxiv.org/abs/1911.07963; weights and BatchNorm's statistics, which
    differ in scale, each by their own median.
    """
    if len(updates) < 3:
        return [Judgement()] * len(updates)
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile update may be as large as numbers go
        return _judge(start, updates)


def _judge(start: Floats, updates: Sequence[Floats]) -> list[Judgement]:
    weights, running = (
        [_change(start, update, [key for key in start if is_statistic(key) is which]) for update in updates]
        for which in (False, True)
    )
    lengths, depths = ([math.sqrt(_dot(change, change)) for change in changes] for changes in (weights, running))
    directions = [change / (length or 1) for change, length in zip(weights, lengths, strict=True)]
    together = np.sum(directions, axis=0)  # of directions, or the longest would have honest ones named
    return [
        Judgement(
            _bound(length, lengths),
            _bound(depth, depths),
            tuple(_remarks(length, lengths, "weights") + _remarks(depth, depths, "statistics"))
            + _direction(direction, together - direction),
        )
        for length, depth, direction in zip(lengths, depths, directions, strict=True)
    ]


def _change(start: Floats, update: Floats, keys: Sequence[str]) -> NDArray[np.floating]:
    parts = [(update[key] - start[key]).ravel() for key in keys]
    return np.concatenate(parts) if parts else np.zeros(0)


def _dot(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.multiply(one, other, dtype=np.float64).sum())


def _bound(length: float, lengths: Sequence[float]) -> float:
    median = statistics.median(lengths)
    return median / length if 0 < OUTSIZED * median < length else 1.0


def _remarks(length: float, lengths: Sequence[float], what: str) -> list[str]:
    median = statistics.median(lengths)
    if _bound(length, lengths) < 1:
        return [f"the change of its {what} is {length / median:.3g} times as long as the median one"]
    return [f"it left the {what} as they were"] if length == 0 < median and what == "weights" else []


def _direction(change: NDArray[np.floating], others: NDArray[np.floating]) -> tuple[str, ...]:
    scale = math.sqrt(_dot(change, change)) * math.sqrt(_dot(others, others))
    cosine = _dot(change, others) / scale if scale else 0.0
    return (f"it points against the others (cosine {cosine:.2f})",) if cosine < OPPOSED else ()


def shorten(start: Floats, update: Floats, judged: Judgement) -> dict[str, NDArray[np.floating]]:
    """The update with its changes of weights and statistics cut to what was judged."""
    shares = {key: judged.statistics if is_statistic(key) else judged.weights for key in start}
    return {
        key: update[key] if shares[key] == 1 else (before + shares[key] * (update[key] - before)).astype(before.dtype)
        for key, before in start.items()
    }
