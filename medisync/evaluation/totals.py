"""Labels and logits -> totals that hospitals can add up.

A hospital scores its own images and passes on `Totals` only: counts and sums, never an image or a single prediction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medisync.evaluation.bootstrap import draw_groups
from medisync.schemas import LABELS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Floats = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]

CONFIDENCE_BINS = 15
"""Bins of the reliability diagram."""

TEMPERATURES: Floats = np.geomspace(0.2, 10.0, 118)
"""Candidates for the calibration temperature, 3.4 % apart."""

OOD_SCORE_EDGES: Floats = np.geomspace(0.05, 50.0, 1601)
LOG_ODDS_EDGES: Floats = np.linspace(-12.0, 12.0, 241)
NONCONFORMITY_EDGES: Floats = np.linspace(0.0, 1.0, 1001)
"""Edges of histogram cells."""

CONFUSION_SHAPE = (len(LABELS), len(LABELS))
RANKS_SHAPE = (len(LABELS), 2, len(LOG_ODDS_EDGES) - 1)

EPSILON = 1e-9
"""Tolerance in comparisons with the edge of a cell."""


@dataclass(frozen=True)
class Totals:
    """Additive sums over the images of one or more hospitals.

    K classes, B confidence bins, T temperatures, R bootstrap samples of the groups (R may be 0); D, O and C are the
    cells between OOD_SCORE_EDGES, LOG_ODDS_EDGES and NONCONFORMITY_EDGES.
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
    ood_scores: Ints
    """[D]: images by OOD score; all 0 where it was not measured."""
    ranks: Ints
    """[K, 2, O]: images by the log odds of class k; first those of other classes, then those of k."""
    nonconformity: Ints
    """[2, C]: nonconformity scores of the true classes, then of all classes."""
    replicates: Ints
    """[R, K, K]: confusion matrices of the bootstrap samples."""
    rank_replicates: Ints
    """[R, K, 2, O]: `ranks` of the bootstrap samples."""


Sums = TypeVar("Sums", bound="DataclassInstance")
"""A dataclass of arrays that hospitals add up: totals, or moments of features."""


def tally(
    labels: Ints,
    logits: NDArray[np.floating],
    groups: Ints,
    *,
    temperature: float = 1.0,
    ood_scores: Floats | None = None,
    replicates: int = 0,
    generator: np.random.Generator | None = None,
) -> Totals:
    """The totals of N images from labels [N], logits [N, K], groups [N] and OOD scores [N].

    `replicates` bootstrap samples are drawn by group, because images of one patient are not independent.
    """
    scores = np.asarray(logits, np.float64)
    probabilities = softmax(scores / temperature)
    draws = draw_groups(groups, replicates, generator or np.random.default_rng(0))
    cells, ranks = _confusion_cells(labels, probabilities), _rank_cells(labels, scores / temperature)
    return Totals(
        confusion=_sum_cells(cells, CONFUSION_SHAPE),
        loss=np.array([_cross_entropy(labels, scores / temperature)]),
        brier=np.array([float(np.sum((probabilities - np.eye(len(LABELS))[labels]) ** 2))]),
        reliability=_reliability(labels, probabilities),
        loss_by_temperature=np.array([_cross_entropy(labels, scores / t) for t in TEMPERATURES]),
        ood_scores=_histogram(np.zeros(0) if ood_scores is None else ood_scores, OOD_SCORE_EDGES),
        ranks=_sum_cells(ranks, RANKS_SHAPE),
        nonconformity=_nonconformity(labels, probabilities),
        replicates=_replicates(cells, groups, draws, CONFUSION_SHAPE),
        rank_replicates=_replicates(ranks, groups, draws, RANKS_SHAPE),
    )


def add_up(sums: Iterable[Sums]) -> Sums:
    """Adds sums over different images, field by field; takes at least one."""
    parts = list(sums)
    first = parts[0]
    return replace(first, **{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(first)})


def softmax(logits: Floats) -> Floats:
    """Probabilities [N, K] from logits [N, K]."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def nonconformity_scores(probabilities: Floats) -> Floats:
    """The nonconformity of each class as the true one, [N, K]: 0 for the most probable class, 1 - p for the others.

    The least ambiguous sets of Sadinle et al. 2019, https://arxiv.org/abs/1609.00451, changed so that no set is empty.
    """
    most_probable = probabilities.argmax(axis=1)[:, np.newaxis] == np.arange(probabilities.shape[1])
    return np.where(most_probable, 0.0, 1.0 - probabilities)


def _cross_entropy(labels: Ints, logits: Floats) -> float:
    return float(np.sum(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]))


def _confusion_cells(labels: Ints, probabilities: Floats) -> Ints:
    """[N, 1]: the cell of the confusion matrix in which each image counts."""
    return (labels * len(LABELS) + probabilities.argmax(axis=1))[:, np.newaxis]


def _rank_cells(labels: Ints, logits: Floats) -> Ints:
    """[N, K]: the cells of `ranks` in which each image counts, one per class."""
    others = [np.logaddexp.reduce(np.delete(logits, k, axis=1), axis=1) for k in range(len(LABELS))]
    odds = np.clip(logits - np.stack(others, axis=1), *LOG_ODDS_EDGES[[0, -1]])
    cell = np.clip(np.searchsorted(LOG_ODDS_EDGES, odds, side="right") - 1, 0, RANKS_SHAPE[-1] - 1)
    member = labels[:, np.newaxis] == np.arange(len(LABELS))
    return (2 * np.arange(len(LABELS)) + member) * RANKS_SHAPE[-1] + cell


def _sum_cells(cells: Ints, shape: tuple[int, ...]) -> Ints:
    return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def _histogram(values: Floats, edges: Floats) -> Ints:
    """Counts by cell; values outside the edges count in the first or last cell."""
    return np.histogram(np.clip(values, *edges[[0, -1]]), edges)[0].astype(np.int64)


def _nonconformity(labels: Ints, probabilities: Floats) -> Ints:
    scores = nonconformity_scores(probabilities)
    true = scores[np.arange(len(labels)), labels]
    return np.stack([_histogram(true, NONCONFORMITY_EDGES), _histogram(scores.ravel(), NONCONFORMITY_EDGES)])


def _reliability(labels: Ints, probabilities: Floats) -> Floats:
    confidence = probabilities.max(axis=1, initial=0.0)
    correct = probabilities.argmax(axis=1) == labels
    cell = np.minimum((confidence * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    columns = (np.ones_like(confidence), confidence, correct.astype(np.float64))
    return np.stack([np.bincount(cell, weights=column, minlength=CONFIDENCE_BINS) for column in columns], axis=1)


def _replicates(cells: Ints, groups: Ints, draws: Ints, shape: tuple[int, ...]) -> Ints:
    """[R, *shape]: cells [N, ...] counted over the images of the groups drawn."""
    names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), int(np.prod(shape))), np.float64)  # doubles multiply fast and are exact here
    np.add.at(by_group, (member[:, np.newaxis], cells), 1)
    return (draws.astype(np.float64) @ by_group).astype(np.int32).reshape(len(draws), *shape)  # millions, per hospital
