"""Labels and logits -> totals that hospitals can add up.

A hospital scores its own images and passes on `Totals` only: counts and sums, never an image or a single prediction.
Whoever reads them must not be able to take them apart again. Therefore totals hold no resampled copies of themselves
(bootstrap replicates whose draws are known, or can be matched with each other, give every group back), histogram cells
are coarse, and sums of real numbers are rounded before they leave. docs/privacy.md says what a reader of totals still learns.
"""

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

CONFIDENCE_BINS = 15
"""Bins of the reliability diagram."""

TEMPERATURES: Floats = np.geomspace(0.2, 10.0, 118)
"""Candidates for the calibration temperature, 3.4 % apart."""

OOD_SCORE_EDGES: Floats = np.geomspace(0.05, 50.0, 401)
LOG_ODDS_EDGES: Floats = np.linspace(-12.0, 12.0, 49)
NONCONFORMITY_EDGES: Floats = np.linspace(0.0, 1.0, 101)
CONFIDENCE_EDGES: Floats = np.linspace(0.0, 1.0, 51)
"""Edges of histogram cells. A cell may hold one image, so its width is how well that image's score becomes known: 1.7 %,
half a unit of log odds, 0.01 and 0.02. Areas under the ROC curve are then known to 0.01, and those above 0.9 to 0.002.
"""

SUM_DECIMALS = 2
"""Decimals of losses and Brier scores, summed over a hospital's images, that leave it."""

CONFIDENCE_STEP = 0.05
"""Resolution of the sum of confidences in a bin that leaves a hospital."""

CONFIDENT = 0.9
"""Confidence above which a wrong answer misleads; an edge of CONFIDENCE_EDGES."""

CORRECT, WRONG, FLAGGED = range(3)
"""Rows of `selective`: scans that are answered correctly, wrongly, and those that are out of distribution."""

CONFIDENTLY_WRONG, UNANSWERED, REMAINING = range(3)
"""Outcomes whose numbers `outcome_covariance` is about: wrong with a confidence above CONFIDENT and not flagged, flagged,
and all others."""

CONFUSION_SHAPE = (len(LABELS), len(LABELS))
RANKS_SHAPE = (len(LABELS), 2, len(LOG_ODDS_EDGES) - 1)
RANK_CELLS = 2 * (len(LOG_ODDS_EDGES) - 1)

EPSILON = 1e-9
"""Tolerance in comparisons with the edge of a cell."""


@dataclass(frozen=True)
class Totals:
    """Additive sums over the images of one or more hospitals.

    K classes, B confidence bins, T temperatures; D, O, C and E are the cells between OOD_SCORE_EDGES, LOG_ODDS_EDGES,
    NONCONFORMITY_EDGES and CONFIDENCE_EDGES. The covariances are those of a bootstrap over the groups of each hospital; hospitals are
    resampled independently, so they add up too. They are 0 unless asked for.
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
    selective: Ints
    """[3, E]: images by confidence; first those answered correctly, then wrongly, then those out of distribution."""
    confusion_covariance: Floats
    """[K K, K K]: covariance of the cells of `confusion`."""
    rank_covariance: Floats
    """[K, 2 O, 2 O]: covariance of the cells of `ranks`, class by class: between classes it would say which log odds
    belong to one image."""
    outcome_covariance: Floats
    """[3, 3]: covariance of the numbers of images that are confidently wrong, that are flagged, and of all others."""


Sums = TypeVar("Sums", bound="DataclassInstance")
"""A dataclass of arrays that hospitals add up: totals, or moments of features."""


def tally(
    labels: Ints,
    logits: NDArray[np.floating],
    groups: Ints,
    *,
    temperature: float = 1.0,
    ood_scores: Floats | None = None,
    ood_threshold: float = np.inf,
    covariances: bool = False,
) -> Totals:
    """The totals of N images from labels [N], logits [N, K], groups [N] and OOD scores [N].

    Images with an OOD score above `ood_threshold` are flagged. With `covariances` intervals follow from them, over groups,
    because images of one patient are not independent.
    """
    scores = np.asarray(logits, np.float64)
    probabilities = softmax(scores / temperature)
    confidence, answers = (
        probabilities.max(axis=1, initial=0.0),
        _answers(labels, probabilities, ood_scores, ood_threshold),
    )
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
        selective=_selective(answers, confidence),
        confusion_covariance=_covariance(cells, groups, len(LABELS) ** 2, covariances),
        rank_covariance=np.stack(
            [_covariance(column % RANK_CELLS, groups, RANK_CELLS, covariances) for column in ranks.T]
        ),
        outcome_covariance=_covariance(_outcomes(answers, confidence), groups, 3, covariances),
    )


def tally_others(
    logits: NDArray[np.floating],
    groups: Ints,
    *,
    temperature: float = 1.0,
    ood_scores: Floats,
    ood_threshold: float,
) -> Totals:
    """The totals of N images that are of none of the classes: what is answered, always wrongly, and OOD scores.

    Takes logits [N, K], groups [N] and OOD scores [N]. Everything that needs a true class is 0.
    """
    probabilities = softmax(np.asarray(logits, np.float64) / temperature)
    nobody = np.full(len(groups), -1)
    confidence, answers = (
        probabilities.max(axis=1, initial=0.0),
        _answers(nobody, probabilities, ood_scores, ood_threshold),
    )
    return replace(
        tally(np.zeros(0, np.int64), np.zeros((0, len(LABELS))), np.zeros(0, np.int64)),
        ood_scores=_histogram(ood_scores, OOD_SCORE_EDGES),
        selective=_selective(answers, confidence),
        outcome_covariance=_covariance(_outcomes(answers, confidence), groups, 3, wanted=True),
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
    """[N]: the cell of the confusion matrix in which each image counts."""
    return np.asarray(labels * len(LABELS) + probabilities.argmax(axis=1))


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


def _answers(labels: Ints, probabilities: Floats, ood_scores: Floats | None, ood_threshold: float) -> Ints:
    """[N]: the row of `selective` in which each image counts."""
    answered = np.where(probabilities.argmax(axis=1) == labels, CORRECT, WRONG)
    return answered if ood_scores is None else np.where(ood_scores > ood_threshold, FLAGGED, answered)


def _selective(answers: Ints, confidence: Floats) -> Ints:
    return np.stack([_histogram(confidence[answers == row], CONFIDENCE_EDGES) for row in (CORRECT, WRONG, FLAGGED)])


def _outcomes(answers: Ints, confidence: Floats) -> Ints:
    """[N]: the outcome of each image, to the width of a cell of `selective`."""
    misled = (answers == WRONG) & (confidence >= CONFIDENT - EPSILON)
    return np.select([misled, answers == FLAGGED], [CONFIDENTLY_WRONG, UNANSWERED], REMAINING)


def _covariance(cells: Ints, groups: Ints, size: int, wanted: bool) -> Floats:
    """[size, size]: the covariance of the counts in cells [N] when whole groups [N] are drawn with replacement.

    G draws of G groups that put x_g into the cells have the covariance sum x_g x_g^T - s s^T / G, with s = sum x_g.
    """
    if not wanted:
        return np.zeros((size, size))
    names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), size))
    np.add.at(by_group, (member, cells), 1)
    total = by_group.sum(axis=0)
    return by_group.T @ by_group - np.outer(total, total) / max(1, len(names))


def for_release(totals: Totals) -> Totals:
    """The totals as they leave a hospital: sums of real numbers rounded, so that they say nothing exact about one image."""
    reliability = totals.reliability.copy()
    reliability[:, 1] = np.round(reliability[:, 1] / CONFIDENCE_STEP) * CONFIDENCE_STEP
    sums = ("loss", "brier", "loss_by_temperature")
    rounded = {name: np.round(getattr(totals, name), SUM_DECIMALS) for name in sums}
    return replace(totals, reliability=reliability, **rounded)
