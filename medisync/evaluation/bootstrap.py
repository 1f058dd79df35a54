"""Bootstrap over groups, its intervals, and the paired comparison of two models.

Groups are resampled instead of images, because images of one patient are not independent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from medisync.schemas import Interval

REPLICATES = 1000
INTERVAL_PERCENTILES = (2.5, 97.5)


def draw_groups(
    groups: NDArray[np.signedinteger[Any]], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draws `count` samples of the G groups with replacement: [count, G], how often each group is in each sample.

    The groups are in the order of `np.unique(groups)`, of the images' groups [N].
    """
    names = np.unique(groups)
    if not len(names):
        return np.zeros((count, 0), np.int64)
    return generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % percentile interval of a figure's values in bootstrap samples [R], NaN where it is undefined."""
    low, high = np.nanpercentile(values, INTERVAL_PERCENTILES)
    return float(low), float(high)


def sample_counts(counts: NDArray[Any], covariance: NDArray[np.float64], replicates: int) -> NDArray[np.float64]:
    """[R, ...]: draws from the normal distribution around `counts` [...], cut off at 0.

    The generator's seed is a constant: the draws hide nothing, and the same totals have the same intervals.
    """
    if not replicates:
        return np.zeros((0, *counts.shape))
    values, vectors = np.linalg.eigh(covariance)
    noise = np.random.default_rng(0).standard_normal((replicates, len(values)))
    draws = counts.ravel() + noise * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return np.asarray(np.maximum(draws, 0).reshape(replicates, *counts.shape))


def intervals(samples: Mapping[str, NDArray[np.float64]]) -> dict[str, Interval]:
    """Intervals by figure, from its values in bootstrap samples [R]; a figure that is undefined in every sample has none."""
    found = {name: interval(values) for name, values in samples.items()}
    return {name: each for name, each in found.items() if each}


def interval(values: NDArray[np.float64]) -> Interval | None:
    """The 95 % interval of a fraction from its values in bootstrap samples [R]; None if all of them are undefined."""
    if not np.isfinite(values).any():
        return None
    low, high = np.clip(percentile_interval(values), 0.0, 1.0)  # rounding may leave a ratio of sums just outside
    return Interval(low=float(low), high=float(high))


def paired_interval(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], groups: NDArray[np.int64], generator: np.random.Generator
) -> tuple[float, float]:
    """The 95 % interval of the difference in accuracy, ours minus theirs, of two models on the same images.

    Takes which images each model classifies correctly [N], and the images' groups [N].
    """
    _, member = np.unique(groups, return_inverse=True)
    gained = np.bincount(member, weights=ours.astype(float) - theirs.astype(float))
    images = np.bincount(member)
    draws = draw_groups(groups, REPLICATES, generator)
    return percentile_interval((draws @ gained) / (draws @ images))


def mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value of the hypothesis that two models err equally often on the same images [N].

    It treats images as independent, which slices of one patient are not; `paired_interval` does not.

    McNemar 1947, https://doi.org/10.1007/BF02295996.
    """
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue) if only_ours + only_theirs else 1.0
