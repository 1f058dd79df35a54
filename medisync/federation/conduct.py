"""What is odd about an update that is well formed: its length and its direction, judged against the others of the round.

Nobody can tell a hostile hospital from an unusual one by its update alone, so nothing is refused here. A length that would
own the average is cut to the median one; the rest is said, for a person to look at.
"""

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

OPPOSED = -0.1
"""Cosine of an update with the mean direction of the others: updates are almost at right angles to each other, and honest
hospitals of the three real collections stayed above -0.05."""


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
    lengths, cosines = _geometry(start, updates, weights)
    depths, _ = _geometry(start, updates, running)
    return [
        Judgement(
            _bound(length, lengths),
            _bound(depth, depths),
            (*_remarks(length, lengths, "weights"), *_remarks(depth, depths, "statistics"), *_direction(cosine)),
        )
        for length, depth, cosine in zip(lengths, depths, cosines, strict=True)
    ]


def _geometry(start: Floats, updates: Sequence[Floats], keys: Sequence[str]) -> tuple[list[float], list[float]]:
    """How far each update is from `start` in these arrays, and the cosine of its direction with the others' mean one.

    Directions, because a sum of changes would point where the longest of them does, and honest ones against it.
    """
    changes = np.zeros((len(updates), sum(start[key].size for key in keys)), np.float32)
    for row, update in zip(changes, updates, strict=True):
        if keys:
            np.concatenate([(update[key] - start[key]).ravel() for key in keys], out=row)
    largest = np.abs(changes).max(axis=1, initial=0).astype(np.float64)
    changes /= np.where(largest > 0, largest, 1).astype(np.float32)[:, np.newaxis]
    gram = (changes @ changes.T).astype(np.float64)
    norms = np.sqrt(np.diag(gram))
    directions = gram / np.maximum(np.outer(norms, norms), 1e-30)  # cosines of each two
    apart = 1 - np.eye(len(updates))
    sums = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", apart, directions, apart), 1e-30))
    cosines = (directions * apart).sum(axis=1) / sums
    return (largest * norms).tolist(), cosines.tolist()


def _bound(length: float, lengths: Sequence[float]) -> float:
    median = statistics.median(lengths)
    return median / length if 0 < OUTSIZED * median < length else 1.0


def _remarks(length: float, lengths: Sequence[float], what: str) -> list[str]:
    median = statistics.median(lengths)
    if _bound(length, lengths) < 1:
        return [f"the change of its {what} is {length / median:.3g} times as long as the median one"]
    return [f"it left the {what} as they were"] if length == 0 < median and what == "weights" else []


def _direction(cosine: float) -> list[str]:
    return [f"it points against the others (cosine {cosine:.2f})"] if cosine < OPPOSED else []


def shorten(start: Floats, update: Floats, judged: Judgement) -> dict[str, NDArray[np.floating]]:
    """The update with its changes of weights and statistics cut to what was judged."""
    shares = {key: judged.statistics if is_statistic(key) else judged.weights for key in start}
    return {
        key: update[key] if shares[key] == 1 else (before + shares[key] * (update[key] - before)).astype(before.dtype)
        for key, before in start.items()
    }
