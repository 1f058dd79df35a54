"""Label shift: how frequent each class is among scans without labels, estimated from a model's probabilities for them.

It is assumed that only the frequencies differ: a scan of each class must look as such scans looked in training, and the
probabilities must be calibrated. The frequencies that they assume are their mean over the scans on which they were calibrated,
so that an error common to all scans cancels. Neither assumption can be tested without labels: where another scanner makes
healthy brains look like a tumour class, the estimate finds that class frequent, and is certain of it. What can be seen without
labels is refused: too few scans, and scans that do not decide between classes.

Maximum likelihood by EM: Saerens et al. 2002, https://doi.org/10.1162/089976602753284446; on calibrated probabilities it is
better than inverting the confusion matrix (Lipton et al. 2018, https://arxiv.org/abs/1802.03916): Alexandari et al. 2020,
https://arxiv.org/abs/1901.06852.
"""

from dataclasses import dataclass

import numpy as np

from medisync.evaluation.bootstrap import INTERVAL_PERCENTILES, draw_groups
from medisync.evaluation.totals import Floats, Ints
from medisync.schemas import LABELS

MIN_SCANS = 50
"""Fewest scans from which frequencies are estimated."""

MAX_WIDTH = 0.3
"""Widest interval of a class's frequency; that of 50 scans, half of one class and none in doubt, has 0.28."""

MAX_HALVES_DIFFERENCE = 0.4
"""Largest difference of a class's frequency between two halves of the scans: 2.6 standard errors where the interval is as wide
as it may be."""

REPLICATES = 200
ITERATIONS = 2000
BISECTIONS = 60
TOLERANCE = 1e-6
"""EM ends when no frequency changes by more than TOLERANCE."""

LEAST_LIKELIHOOD = 1e-12
LEAST_START = 1e-3


@dataclass(frozen=True)
class LabelShift:
    """Frequencies of the K classes among N scans, and how far they are known."""

    estimate: Floats
    """[K]: the most likely frequencies."""
    intervals: Floats
    """[K, 2]: low and high end of the 95 % bootstrap interval, which holds the estimate."""
    prior: Floats
    """[K]: the frequencies to predict with, which move away from the assumed ones only as far as the scans demand."""
    halves_difference: float
    """Largest difference of a class's frequency between two halves of the scans."""
    scans: int
    groups: int


def never_zero(prior: Floats, scans: int) -> Floats:
    """The prior [K] as if one scan of each class had been seen besides: that a class was not seen does not rule it out."""
    result: Floats = (prior * scans + 1) / (scans + len(prior))
    return result


def maximise_likelihood(probabilities: Floats, assumed: Floats, weights: Floats, starts: Floats) -> Floats:
    """The class frequencies [R, K] that are most likely for R weightings of the same scans.

    Takes probabilities [N, K] under the prior `assumed` [K], how often each scan counts [R, N], and where EM starts [R, K],
    all above 0. The maximum does not depend on the start unless the scans do not decide it.
    """
    likelihoods = np.maximum(probabilities / assumed, LEAST_LIKELIHOOD)
    priors = starts
    for _ in range(ITERATIONS):
        found = priors * ((weights / (priors @ likelihoods.T)) @ likelihoods) / weights.sum(axis=1, keepdims=True)
        if np.abs(found - priors).max() < TOLERANCE:
            return found
        priors = found
    return priors


def estimate_label_shift(
    probabilities: Floats, assumed: Floats, groups: Ints, generator: np.random.Generator
) -> LabelShift:
    """The class frequencies among N scans, from probabilities [N, K] under the prior `assumed` [K], with their stability.

    The bootstrap draws whole groups [N], because scans of one patient are not independent. Each of its estimates, and that of
    each half, starts from a prior drawn at random, so that what the scans do not decide widens the intervals.
    """
    names, member = np.unique(groups, return_inverse=True)
    halves = _halves(len(names), generator)[:, member]
    draws = draw_groups(groups, REPLICATES, generator)[:, member]
    weights = np.concatenate([np.ones((1, len(groups))), halves, draws])
    drawn = generator.dirichlet(np.ones(len(assumed)), size=len(weights) - 1)
    starts = np.concatenate([assumed[np.newaxis], np.maximum(drawn, LEAST_START)])
    estimate, one, other, *samples = maximise_likelihood(probabilities, assumed, weights, starts)
    intervals = _intervals(estimate, np.stack(samples), len(names))
    return LabelShift(
        estimate=estimate,
        intervals=intervals,
        prior=never_zero(nearest_within(assumed, intervals), len(names)),
        halves_difference=float(np.abs(one - other).max()),
        scans=len(groups),
        groups=len(names),
    )


def _halves(count: int, generator: np.random.Generator) -> Floats:
    """[2, count]: which of so many groups are in the one and in the other half."""
    first = generator.permutation(count) < count // 2
    return np.stack([first, ~first]).astype(np.float64)


def _intervals(estimate: Floats, samples: Floats, count: int) -> Floats:
    """[K, 2]: percentile intervals of frequencies in samples [R, K] of so many groups.

    A class that is in no scan is in no sample either. Its interval goes up to the frequency at which that happens in 2.5 % of
    all cases, and that of a class which all scans have goes down as far.
    """
    low, high = np.percentile(samples, INTERVAL_PERCENTILES, axis=0)
    unseen = 1 - 0.025 ** (1 / count)
    ends = [np.minimum(low, 1 - unseen), np.maximum(high, unseen)]
    return np.stack([np.minimum(ends[0], estimate), np.maximum(ends[1], estimate)], axis=1)


def nearest_within(assumed: Floats, intervals: Floats) -> Floats:
    """The prior [K] within intervals [K, 2] that is nearest to `assumed` [K], as the Kullback-Leibler divergence measures it.

    That is `assumed` times a factor, cut off at the ends of the intervals, with the factor for which the sum is 1.
    """

    def cut_off(factor: float) -> Floats:
        return np.clip(factor * assumed, intervals[:, 0], intervals[:, 1])

    low, high = 0.0, 1 / assumed.min()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cut_off(middle).sum() < 1 else (low, middle)
    found = cut_off(high)
    return found / found.sum()


def why_unstable(found: LabelShift) -> str:
    """Why an estimate must not be used, and what to do; empty for one that may be."""
    widths = found.intervals[:, 1] - found.intervals[:, 0]
    widest = int(widths.argmax())
    if widths[widest] > MAX_WIDTH:
        low, high = 100 * found.intervals[widest]
        return (
            f"the fraction of {LABELS[widest]} among {found.scans} scans is known only to lie between {low:.0f} and {high:.0f} %,"
            f" a width of at most {100 * MAX_WIDTH:.0f} points is accepted; bring more scans"
        )
    if found.halves_difference > MAX_HALVES_DIFFERENCE:
        return (
            f"two halves of the scans differ by {100 * found.halves_difference:.0f} points in the fraction of a class, at most"
            f" {100 * MAX_HALVES_DIFFERENCE:.0f} are accepted; bring more scans"
        )
    return ""
