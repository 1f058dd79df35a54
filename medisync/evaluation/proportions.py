"""Exact confidence bounds of a fraction, from how often it was observed: Clopper & Pearson 1934.

https://doi.org/10.1093/biomet/26.4.404
"""

from scipy.stats import beta


def upper_bound(count: int, total: int, level: float) -> float:
    """What the fraction behind `count` of `total` does not exceed, at this level of confidence."""
    return float(beta.ppf(level, count + 1, total - count)) if count < total else 1.0


def lower_bound(count: int, total: int, level: float) -> float:
    """What the fraction behind `count` of `total` does not fall below, at this level of confidence."""
    return float(beta.ppf(1 - level, count, total - count + 1)) if count > 0 else 0.0
