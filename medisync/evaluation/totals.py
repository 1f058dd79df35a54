"""Labels and logits -> totals that hospitals can add up: counts and sums, no image, no single prediction."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medisync.schemas import LABELS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Floats = NDArray[np.float64]


Ints = NDArray[np.signedinteger[Any]]


BINS = 15


EPSILON = 1e-9


TEMPERATURES: Floats = np.geomspace(0.2, 10.0, 118)


DISTANCE_EDGES: Floats = np.geomspace(0.05, 50.0, 1601)


LOG_ODDS_EDGES: Floats = np.linspace(-12.0, 12.0, 241)


CONFORMITY_EDGES: Floats = np.linspace(0.0, 1.0, 1001)


RANKS_SHAPE = (len(LABELS), 2, len(LOG_ODDS_EDGES) - 1)


REPLICATES = 1000


@dataclass(frozen=True)
class Totals:
    """Additive sums over the images of one or more hospitals.

    K classes, B bins, T temperatures, R bootstrap samples of the groups (R may be 0); D, O and C are the cells between
    DISTANCE_EDGES, LOG_ODDS_EDGES and CONFORMITY_EDGES.
    """

    confusion: Ints
    """[K, K], rows true, columns predicted."""
    loss: Floats
    """[1]: cross-entropy summed over the images, at the temperature given."""
    brier: Floats
    """[1]: squared distance of the probabilities from the true class, summed over the images, at that temperature."""
    reliability: Floats
    """[B, 3]: images, sum of confidences, number correct, by confidence."""
    loss_by_temperature: Floats
    """[T]: cross-entropy summed over the images, at each of TEMPERATURES."""
    distances: Ints
    """[D]: images by distance from the training scans; all 0 where that was not measured."""
    ranks: Ints
    """[K, 2, O]: images by the log odds of class k; those of other classes, then those of k."""
    conformity: Ints
    """[2, C]: nonconformity scores of the true classes, then of all classes."""
    replicates: Ints
    """[R, K, K]: confusion matrices."""
    rank_replicates: Ints
    """[R, K, 2, O]: `ranks`."""


Sums = TypeVar("Sums", bound="DataclassInstance")
"""Dataclasses of arrays that hospitals add up: totals, and moments of features."""


def tally(
    labels: Ints,
    logits: NDArray[np.floating],
    groups: Ints,
    *,
    temperature: float = 1.0,
    distances: Floats | None = None,
    replicates: int = 0,
    generator: np.random.Generator | None = None,
) -> Totals:
    """The totals of N images from labels [N], logits [N, K] and groups [N], and distances [N] as `novelty` has them.

    `replicates` bootstrap samples are drawn by group, because images of one patient are not independent.
    """
    scores = np.asarray(logits, np.float64)
    probabilities = softmax(scores / temperature)
    draws = _draw_groups(groups, replicates, generator or np.random.default_rng(0))
    cells, ranks = _confusion_cells(labels, probabilities), _rank_cells(labels, scores / temperature)
    return Totals(
        confusion=_sum_cells(cells, (len(LABELS), len(LABELS))),
        loss=np.array([_cross_entropy(labels, scores / temperature)]),
        brier=np.array([float(np.sum((probabilities - np.eye(len(LABELS))[labels]) ** 2))]),
        reliability=_reliability(labels, probabilities),
        loss_by_temperature=np.array([_cross_entropy(labels, scores / t) for t in TEMPERATURES]),
        distances=_count(np.zeros(0) if distances is None else distances, DISTANCE_EDGES),
        ranks=_sum_cells(ranks, RANKS_SHAPE),
        conformity=_conformity(labels, probabilities),
        replicates=_replicates(cells, groups, draws, (len(LABELS), len(LABELS))),
        rank_replicates=_replicates(ranks, groups, draws, RANKS_SHAPE),
    )


def add_up(sums: Iterable[Sums]) -> Sums:
    """The sums over all images together, from those of some of them: field by field, at least one of them."""
    parts = list(sums)
    first = parts[0]
    return replace(first, **{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(first)})


def softmax(logits: Floats) -> Floats:
    """Probabilities [N, K] from logits [N, K]."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def _cross_entropy(labels: Ints, logits: Floats) -> float:
    return float(np.sum(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]))


def _confusion_cells(labels: Ints, probabilities: Floats) -> Ints:
    """[N, 1]: which cell of the confusion matrix each image counts in."""
    return (labels * len(LABELS) + probabilities.argmax(axis=1))[:, np.newaxis]


def _rank_cells(labels: Ints, logits: Floats) -> Ints:
    """[N, K]: which cells of `ranks` each image counts in, one per class."""
    others = [np.logaddexp.reduce(np.delete(logits, k, axis=1), axis=1) for k in range(len(LABELS))]
    odds = np.clip(logits - np.stack(others, axis=1), *LOG_ODDS_EDGES[[0, -1]])
    cell = np.clip(np.searchsorted(LOG_ODDS_EDGES, odds, side="right") - 1, 0, RANKS_SHAPE[-1] - 1)
    member = labels[:, np.newaxis] == np.arange(len(LABELS))
    return (2 * np.arange(len(LABELS)) + member) * RANKS_SHAPE[-1] + cell


def _sum_cells(cells: Ints, shape: tuple[int, ...]) -> Ints:
    return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def _count(values: Floats, edges: Floats) -> Ints:
    """Histogram; what lies outside the edges counts in the first or last cell."""
    return np.histogram(np.clip(values, *edges[[0, -1]]), edges)[0].astype(np.int64)


def nonconformity(probabilities: Floats) -> Floats:
    """How strange each class would be as the true one, [N, K]: 0 for the most probable, 1 - p for the others.

    The least ambiguous sets of Sadinle et al. 2019, https://arxiv.org/abs/1609.00451, changed so that no set is empty.
    """
    most_probable = probabilities.argmax(axis=1)[:, np.newaxis] == np.arange(probabilities.shape[1])
    return np.where(most_probable, 0.0, 1.0 - probabilities)


def _conformity(labels: Ints, probabilities: Floats) -> Ints:
    strangeness = nonconformity(probabilities)
    true = strangeness[np.arange(len(labels)), labels]
    return np.stack([_count(true, CONFORMITY_EDGES), _count(strangeness.ravel(), CONFORMITY_EDGES)])


def _reliability(labels: Ints, probabilities: Floats) -> Floats:
    confidence = probabilities.max(axis=1, initial=0.0)
    correct = probabilities.argmax(axis=1) == labels
    cell = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    columns = (np.ones_like(confidence), confidence, correct.astype(np.float64))
    return np.stack([np.bincount(cell, weights=column, minlength=BINS) for column in columns], axis=1)


def _draw_groups(groups: Ints, count: int, generator: np.random.Generator) -> Ints:
    """[count, G]: how often each group is drawn in samples of G groups with replacement."""
    names = np.unique(groups)
    if not len(names):
        return np.zeros((count, 0), np.int64)
    return generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)


def _replicates(cells: Ints, groups: Ints, draws: Ints, shape: tuple[int, ...]) -> Ints:
    """[R, *shape]: the sums of cells [N, ...] over the images of the groups drawn."""
    names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), int(np.prod(shape))), np.float64)  # doubles multiply fast and are exact here
    np.add.at(by_group, (member[:, np.newaxis], cells), 1)
    return (draws.astype(np.float64) @ by_group).astype(np.int32).reshape(len(draws), *shape)  # millions, per hospital
