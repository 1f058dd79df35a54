"""Totals -> metrics with confidence intervals.

An interval is what a bootstrap over groups would give: the cells of the confusion matrix and of the rank histograms are
drawn from the normal distribution that has their bootstrap covariance, and every figure is computed from each draw.

Every metric is computed from totals, which hospitals can add up, so that the figures of one hospital and of the
federation come from the same code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medisync.evaluation.bootstrap import REPLICATES, intervals, sample_counts
from medisync.evaluation.selective import selective_metrics
from medisync.evaluation.totals import EPSILON, NONCONFORMITY_EDGES, OOD_SCORE_EDGES, Floats, Ints, Totals
from medisync.schemas import LABELS, Calibration, ClassMetrics, Interval, Label, Metrics, ReliabilityBin

Counts = NDArray[Any]
"""Counts of images, or draws around them."""

ROC_STEP = 0.05
"""Least distance between two points of a stored ROC curve, in the sum of both rates."""


def compute_metrics(totals: Totals, fitted: Calibration | None = None) -> Metrics:
    """Every figure that the totals support; None where a figure is undefined.

    Figures of prediction sets, and the fraction of scans out of distribution, need the thresholds fitted on validation.
    """
    confusion, count = totals.confusion, int(totals.confusion.sum())
    coverage, size = _prediction_sets(totals.nonconformity, fitted.conformal_threshold if fitted else None)
    samples = _draw_samples(totals)
    return Metrics(
        n=count,
        loss=float(totals.loss[0] / count) if count else None,
        accuracy=_defined(accuracy(confusion)),
        balanced_accuracy=_defined(balanced_accuracy(confusion)),
        macro_f1=_defined(macro_f1(confusion)),
        macro_auc=_defined(_mean_of_defined(area_under_curve(totals.ranks))),
        per_class=_per_class(totals, samples),
        confusion_matrix=confusion.tolist(),
        ece=_defined(expected_calibration_error(totals.reliability)),
        brier=brier_score(totals),
        coverage=coverage,
        set_size=size,
        unlike_training=_fraction_beyond(totals.ood_scores, fitted.distance_threshold) if fitted else None,
        reliability=_reliability_bins(totals.reliability),
        selective=selective_metrics(totals, fitted),
        intervals=_overall_intervals(samples),
    )


@dataclass(frozen=True)
class _Samples:
    """R totals as a bootstrap over groups would draw them; R is 0 where no covariance is known."""

    confusion: Floats
    """[R, K, K]."""
    ranks: Floats
    """[R, K, 2, O]."""


def _draw_samples(totals: Totals) -> _Samples:
    known = totals.confusion_covariance.any() or totals.rank_covariance.any()
    count, pairs = REPLICATES if known else 0, zip(totals.ranks, totals.rank_covariance, strict=True)
    return _Samples(
        sample_counts(totals.confusion, totals.confusion_covariance, count),
        np.stack([sample_counts(ranks, covariance, count) for ranks, covariance in pairs], axis=1),
    )


def _overall_intervals(samples: _Samples) -> dict[str, Interval]:
    """Intervals of the overall figures.

    The covariance between classes of the rank histograms is not known, so the interval of the macro AUC is the widest
    one possible: its draws are the means of the classes' sorted draws, as if all classes erred together.
    """
    areas = np.sort(area_under_curve(samples.ranks), axis=0)
    figures = {figure.__name__: figure(samples.confusion) for figure in (accuracy, balanced_accuracy, macro_f1)}
    return intervals({**figures, "macro_auc": _mean_of_defined(areas)})


def accuracy(confusion: Counts) -> Floats:
    """The fraction of images classified correctly; [..., K, K] -> [...], NaN without images."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: Counts) -> Floats:
    """The mean recall over the classes that occur; [..., K, K] -> [...], NaN without images."""
    return _mean_of_defined(_ratio(_diagonal(confusion), confusion.sum(axis=-1)))


def macro_f1(confusion: Counts) -> Floats:
    """The mean F1 over the classes that occur, 0 for one that is never predicted correctly; [..., K, K] -> [...]."""
    occurs = confusion.sum(axis=-1) > 0
    return _mean_of_defined(np.where(occurs, _f1(confusion), np.nan))


def _f1(confusion: Counts) -> Floats:
    """2 TP / (2 TP + FP + FN), [..., K]."""
    return _ratio(2 * _diagonal(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _diagonal(confusion: Counts) -> Counts:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    undefined = np.full(np.shape(denominator), np.nan)
    result: Floats = np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)
    return result


def _mean_of_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def _per_class(totals: Totals, samples: _Samples) -> dict[Label, ClassMetrics]:
    """One-against-rest figures of every class; None where a figure is undefined."""
    figures = _class_figures(totals.confusion, totals.ranks)
    sampled = _class_figures(samples.confusion, samples.ranks)
    return {
        label: ClassMetrics(
            support=int(totals.confusion[k].sum()),
            intervals=intervals({name: values[:, k] for name, values in sampled.items()}),
            roc=roc_curve(totals.ranks[k]),
            **{name: _defined(values[k]) for name, values in figures.items()},
        )
        for k, label in enumerate(LABELS)
    }


def _class_figures(confusion: Counts, ranks: Counts) -> dict[str, Floats]:
    """[..., K] each, from confusion [..., K, K] and ranks [..., K, 2, O]."""
    true, predicted, correct = confusion.sum(axis=-1), confusion.sum(axis=-2), _diagonal(confusion)
    negatives = confusion.sum(axis=(-2, -1))[..., np.newaxis] - true
    return {
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, true),
        "f1": np.where(true > 0, _f1(confusion), np.nan),
        "specificity": _ratio(negatives - (predicted - correct), negatives),
        "auc": area_under_curve(ranks),
    }


def area_under_curve(ranks: Counts) -> Floats:
    """The one-against-rest area under the ROC curve; [..., 2, O] -> [...], NaN where one side has no images.

    It is the fraction of pairs in which the member of the class has the higher score, equal cells counting half: the
    Mann-Whitney statistic, Hanley & McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747.
    """
    others, members = ranks[..., 0, :], ranks[..., 1, :]
    below = np.cumsum(others, axis=-1) - others
    twice_won = (members * (2 * below + others)).sum(axis=-1)
    return _ratio(twice_won, 2 * members.sum(axis=-1) * others.sum(axis=-1))


def roc_curve(ranks: Ints) -> list[tuple[float, float]]:
    """Points (false positive rate, sensitivity) of one class from [2, O], thinned to steps of ROC_STEP.

    Empty if the class, or everything else, has no images.
    """
    rates = np.cumsum(ranks[:, ::-1], axis=1) / np.maximum(ranks.sum(axis=1, keepdims=True), 1)
    if not ranks.sum(axis=1).all():
        return []
    step = np.floor(rates.sum(axis=0) / ROC_STEP + EPSILON)
    stored = np.flatnonzero(np.diff(step, prepend=0.0))
    return [(0.0, 0.0), *(tuple(np.round(rates[:, cell], 4).tolist()) for cell in stored)]


def brier_score(totals: Totals) -> float | None:
    """The mean squared distance of the probabilities from the true class, in [0, 2]; None without images.

    Brier 1950, https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2.
    """
    count = int(totals.confusion.sum())
    return float(totals.brier[0] / count) if count else None


def _prediction_sets(nonconformity: Ints, threshold: float | None) -> tuple[float | None, float | None]:
    """The coverage (fraction of images whose set holds the true class) and the mean number of classes in a set."""
    count = int(nonconformity[0].sum())
    if threshold is None or not count:
        return None, None
    inside = nonconformity[:, NONCONFORMITY_EDGES[1:] <= threshold + EPSILON].sum(axis=1)
    return float(inside[0] / count), float(inside[1] / count)


def _fraction_beyond(ood_scores: Ints, threshold: float) -> float | None:
    """The fraction of images in cells beyond the threshold; None where OOD scores were not measured."""
    count = int(ood_scores.sum())
    return float(ood_scores[OOD_SCORE_EDGES[:-1] >= threshold * (1 - EPSILON)].sum() / count) if count else None


def mean_of_defined(values: Iterable[float | None]) -> float:
    """The mean of the values that are defined; 0 if none is, as where no class of a set was ever predicted."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else 0.0


def expected_calibration_error(reliability: Floats) -> Floats:
    """The ECE: mean gap between confidence and accuracy over the bins [B, 3], weighted by images; NaN without images.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    return _ratio(np.abs(reliability[:, 1] - reliability[:, 2]).sum(), reliability[:, 0].sum())


def _reliability_bins(reliability: Floats) -> list[ReliabilityBin]:
    return [
        ReliabilityBin(images=int(images), confidence=min(confidence / images, 1.0), accuracy=correct / images)
        for images, confidence, correct in reliability.tolist()
        if images
    ]


def _defined(value: Floats | float) -> float | None:
    return None if np.isnan(value) else min(float(value), 1.0)
