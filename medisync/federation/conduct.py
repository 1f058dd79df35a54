"""What is odd about an update that is well formed: its length, judged against the others of the round.

Nobody can tell a hostile hospital from an unusual one by its update alone, so nothing is refused here. A length that would
own the average is cut to the median one. The direction says nothing: with other classes at every hospital, honest updates
pointed against the others (cosine down to -0.33) more often than one whose sign was flipped.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.model import is_statistic

Floats = Mapping[str, NDArray[np.floating]]
"""Arrays by key: weights and statistics, or what an update changes of them."""

OUTSIZED = 5.0
"""Times the median length. Weights of honest hospitals stayed below 2.1 in every round of four federations on real scans and
phantoms, and with tiny hospitals something was beyond 3 in a quarter of the rounds."""


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
    weights, running = ([key for key in start if is_statistic(key) is which] for which in (False, True))
    lengths = [distance(start, update, weights) for update in updates]
    depths = [distance(start, update, running) for update in updates]
    return [
        Judgement(
            _bound(length, lengths),
            _bound(depth, depths),
            (*_remarks(length, lengths, "weights"), *_remarks(depth, depths, "statistics")),
        )
        for length, depth in zip(lengths, depths, strict=True)
    ]


def distance(one: Floats, other: Floats, keys: Iterable[str]) -> float:
    """L2 distance in these arrays; in doubles, because squares of large changes overflow."""
    changes = (np.subtract(one[key], other[key], dtype=np.float64).ravel() for key in keys)
    return math.sqrt(sum(float(change @ change) for change in changes))


def _bound(length: float, lengths: Sequence[float]) -> float:
    median = statistics.median(lengths)
    return median / length if 0 < OUTSIZED * median < length else 1.0


def _remarks(length: float, lengths: Sequence[float], what: str) -> list[str]:
    median = statistics.median(lengths)
    if _bound(length, lengths) < 1:
        return [f"the change of its {what} is {length / median:.3g} times as long as the median one"]
    return [f"it left the {what} as they were"] if length == 0 < median and what == "weights" else []


def shorten(start: Floats, update: Floats, judged: Judgement) -> dict[str, NDArray[np.floating]]:
    """The update with its changes of weights and statistics cut to what was judged."""
    shares = {key: judged.statistics if is_statistic(key) else judged.weights for key in start}
    return {
        key: update[key] if shares[key] == 1 else (before + shares[key] * (update[key] - before)).astype(before.dtype)
        for key, before in start.items()
    }
