"""Labels and logits -> metrics with confidence intervals, by way of totals that hospitals can add up.

A hospital scores its own images and gives away `Totals` only: counts and sums, no image, no single prediction. Totals
of several hospitals add to the totals of all of them, and every metric is computed from totals, so that the figures of
one hospital and of the federation come from the same code.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from medisync.records import (
    LABELS,
    Calibration,
    ClassMetrics,
    Interval,
    Label,
    Metrics,
    ReliabilityBin,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
TEMPERATURES: Floats = np.geomspace(0.2, 10.0, 118)
ENERGY_EDGES: Floats = np.linspace(-60.0, 20.0, 1601)
ENERGY_QUANTILE = 0.95
REPLICATES = 1000
INTERVAL_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Totals:
    """Additive sums over the images of one or more hospitals; K classes, B bins, T temperatures, E energy cells."""

    confusion: Ints
    """[K, K], rows true, columns predicted."""
    loss: Floats
    """[1]: cross-entropy summed over the images, at the temperature given."""
    reliability: Floats
    """[B, 3]: images, sum of confidences, number correct, by confidence."""
    loss_by_temperature: Floats
    """[T]: cross-entropy summed over the images, at each of TEMPERATURES."""
    energies: Ints
    """[E]: images by free energy, between ENERGY_EDGES."""
    replicates: Ints
    """[R, K, K]: confusion matrices of R bootstrap samples of the groups; R may be 0."""


def tally(
    labels: Ints,
    logits: NDArray[np.floating],
    groups: Ints,
    *,
    temperature: float = 1.0,
    replicates: int = 0,
    generator: np.random.Generator | None = None,
) -> Totals:
    """The totals of N images from labels [N], logits [N, K] and groups [N].

    `replicates` bootstrap samples are drawn by group, because images of one patient are not independent.
    """
    scores = np.asarray(logits, np.float64)
    probabilities = softmax(scores / temperature)
    return Totals(
        confusion=_confusion(labels, probabilities),
        loss=np.array([_cross_entropy(labels, scores / temperature)]),
        reliability=_reliability(labels, probabilities),
        loss_by_temperature=np.array([_cross_entropy(labels, scores / t) for t in TEMPERATURES]),
        energies=np.histogram(np.clip(free_energy(scores), *ENERGY_EDGES[[0, -1]]), ENERGY_EDGES)[0].astype(np.int64),
        replicates=_replicates(labels, probabilities, groups, replicates, generator or np.random.default_rng(0)),
    )


def add(totals: Iterable[Totals]) -> Totals:
    """The totals of all images together."""
    parts = list(totals)
    return Totals(**{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(Totals)})


def softmax(logits: Floats) -> Floats:
    """Probabilities [N, K] from logits [N, K]."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def free_energy(logits: Floats) -> Floats:
    """-log sum exp of the logits, [N]: high where no class is supported.

    Liu et al. 2020, Energy-based out-of-distribution detection, https://arxiv.org/abs/2010.03759.
    """
    result: Floats = -np.logaddexp.reduce(logits, axis=1)
    return result


def _cross_entropy(labels: Ints, logits: Floats) -> float:
    return float(np.sum(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]))


def _confusion(labels: Ints, probabilities: Floats) -> Ints:
    cells = labels * len(LABELS) + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=len(LABELS) ** 2).reshape(len(LABELS), len(LABELS)).astype(np.int64)


def _reliability(labels: Ints, probabilities: Floats) -> Floats:
    confidence = probabilities.max(axis=1, initial=0.0)
    correct = probabilities.argmax(axis=1) == labels
    cell = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    columns = (np.ones_like(confidence), confidence, correct.astype(np.float64))
    return np.stack([np.bincount(cell, weights=column, minlength=BINS) for column in columns], axis=1)


def _replicates(labels: Ints, probabilities: Floats, groups: Ints, count: int, generator: np.random.Generator) -> Ints:
    """Confusion matrices of `count` samples of the groups with replacement."""
    names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), len(LABELS) ** 2), np.int64)
    np.add.at(by_group, (member, labels * len(LABELS) + probabilities.argmax(axis=1)), 1)
    if not len(names):
        return np.zeros((count, len(LABELS), len(LABELS)), np.int64)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return (draws @ by_group).reshape(count, len(LABELS), len(LABELS))


def metrics(totals: Totals) -> Metrics:
    """Every figure that the totals support; None where a figure is undefined."""
    confusion, count = totals.confusion, int(totals.confusion.sum())
    return Metrics(
        n=count,
        loss=float(totals.loss[0] / count) if count else None,
        accuracy=_defined(accuracy(confusion)),
        balanced_accuracy=_defined(balanced_accuracy(confusion)),
        macro_f1=_defined(macro_f1(confusion)),
        per_class=per_class(confusion),
        confusion_matrix=confusion.tolist(),
        ece=_defined(expected_calibration_error(totals.reliability)),
        reliability=_reliability_bins(totals.reliability),
        intervals=_intervals(totals.replicates),
    )


def accuracy(confusion: Ints) -> Floats:
    """Share of correct images; [..., K, K] -> [...], NaN without images."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: Ints) -> Floats:
    """Mean recall over the classes that occur."""
    return _mean_of_defined(_ratio(_diagonal(confusion), confusion.sum(axis=-1)))


def macro_f1(confusion: Ints) -> Floats:
    """Mean F1 over the classes that occur; a class that is never found counts 0."""
    occurs = confusion.sum(axis=-1) > 0
    return _mean_of_defined(np.where(occurs, _f1(confusion), np.nan))


def _f1(confusion: Ints) -> Floats:
    """2 TP / (2 TP + FP + FN), [..., K]."""
    return _ratio(2 * _diagonal(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _diagonal(confusion: Ints) -> Ints:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(numerator: Ints, denominator: Ints) -> Floats:
    undefined = np.full(np.shape(denominator), np.nan)
    result: Floats = np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)
    return result


def _mean_of_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def per_class(confusion: Ints) -> dict[Label, ClassMetrics]:
    """One-against-rest figures of every class; None where one is undefined."""
    true, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    negatives = confusion.sum() - true
    columns = {
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, true),
        "f1": np.where(true > 0, _f1(confusion), np.nan),
        "specificity": _ratio(negatives - (predicted - correct), negatives),
    }
    return {
        label: ClassMetrics(support=int(true[k]), **{name: _defined(column[k]) for name, column in columns.items()})
        for k, label in enumerate(LABELS)
    }


def mean_of_defined(values: Iterable[float | None]) -> float:
    """Mean of the defined values; 0 if none is, as where no class of a set was ever predicted."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else 0.0


def expected_calibration_error(reliability: Floats) -> Floats:
    """Mean gap between confidence and accuracy over the bins, weighted by images.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    return _ratio(np.abs(reliability[:, 1] - reliability[:, 2]).sum(), reliability[:, 0].sum())


def _reliability_bins(reliability: Floats) -> list[ReliabilityBin]:
    return [
        ReliabilityBin(images=int(images), confidence=min(confidence / images, 1.0), accuracy=correct / images)
        for images, confidence, correct in reliability.tolist()
        if images
    ]


def _intervals(replicates: Ints) -> dict[str, Interval]:
    """Percentile bootstrap; a figure that is undefined in every sample has no interval."""
    figures = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
    samples = {name: figure(replicates) for name, figure in figures.items()}
    return {name: _interval(values) for name, values in samples.items() if np.isfinite(values).any()}


def _interval(values: Floats) -> Interval:
    low, high = np.nanpercentile(values, INTERVAL_PERCENTILES)
    return Interval(low=float(low), high=float(high))


def _defined(value: Floats | float) -> float | None:
    return None if np.isnan(value) else min(float(value), 1.0)


def fit_temperature(totals: Totals) -> float:
    """The temperature, out of TEMPERATURES, with the least validation cross-entropy (Guo et al. 2017)."""
    return float(TEMPERATURES[totals.loss_by_temperature.argmin()])


def fit_energy_threshold(totals: Totals) -> float:
    """The free energy that 95 % of the validation images stay below, to the width of a histogram cell."""
    cumulative = np.cumsum(totals.energies) / max(1, totals.energies.sum())
    return float(ENERGY_EDGES[int(np.searchsorted(cumulative, ENERGY_QUANTILE)) + 1])


def calibration(before: Totals, after: Totals, temperature: float) -> Calibration:
    """The record of a calibration from validation totals at temperature 1 and at the fitted one."""
    return Calibration(
        temperature=temperature,
        energy_threshold=fit_energy_threshold(before),
        ece_before=_defined(expected_calibration_error(before.reliability)),
        ece_after=_defined(expected_calibration_error(after.reliability)),
    )
