"""Membership inference: how well scans that a model was trained on can be told from others by the model's outputs.

An attack gives each image a score, which is high where it takes the image for a member, that is, a training image.
Members and non-members are compared by area under the ROC curve (0.5 is chance) and by the fraction of members found at
a fixed false positive rate. Yeom et al. 2018, https://arxiv.org/abs/1709.01604; Carlini et al. 2022,
https://arxiv.org/abs/2112.03570.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medisync.evaluation.bootstrap import REPLICATES, draw_groups, interval
from medisync.evaluation.totals import EPSILON, Floats, Ints
from medisync.schemas import DetectionRate, Interval

FALSE_POSITIVE_RATES = (0.01, 0.001)

OFFLINE_SCALE = 0.3
"""How much of a reference's error a model still has on an image that it was trained on: RMIA's parameter a, as its authors
set it where it cannot be fitted."""

REPLICATES_AT_ONCE = 50
"""Bootstrap samples of all images held in memory together."""


def loss_scores(labels: Ints, logits: NDArray[np.floating]) -> Floats:
    """[N]: the log probability of the true class, which is the negative loss, from labels [N] and logits [N, K].

    Ranks images exactly as the log odds of the true class do, which are therefore no attack of their own.
    """
    scores = np.asarray(logits, np.float64)
    return np.asarray(scores[np.arange(len(labels)), labels] - np.logaddexp.reduce(scores, axis=1))


def margin_scores(labels: Ints, logits: NDArray[np.floating]) -> Floats:
    """[N]: the logit of the true class above the largest of the others, from labels [N] and logits [N, K]."""
    scores = np.array(logits, np.float64)
    true = scores[np.arange(len(labels)), labels]
    scores[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(true - scores.max(axis=1, initial=-np.inf))


def reference_scores(
    labels: Ints,
    logits: NDArray[np.floating],
    references: Sequence[NDArray[np.floating]],
    informed: Sequence[NDArray[np.bool_]],
) -> Floats:
    """[N]: the log ratio of the true class's probability to what it is by models that were not trained on the image.

    `references` are the logits [N, K] of such models, and `informed` says of which images [N] each knows the class. The
    expected probability is ((1 + a) p + (1 - a)) / 2 with p, the mean over informed references, and a = OFFLINE_SCALE; it is
    1 without any, which leaves the loss.

    Offline RMIA, Zarifzadeh et al. 2024, https://arxiv.org/abs/2312.03262. Its comparison with a population is left out: one
    population for all images turns the ratio into its rank, which changes no ROC curve.
    """
    told = np.array(informed, np.float64).reshape(len(informed), len(labels))
    probabilities = np.array([np.exp(loss_scores(labels, each)) for each in references]).reshape(told.shape)
    count = told.sum(axis=0)
    mean = np.divide((told * probabilities).sum(axis=0), count, out=np.ones(len(labels)), where=count > 0)
    expected = ((1 + OFFLINE_SCALE) * mean + (1 - OFFLINE_SCALE)) / 2
    return loss_scores(labels, logits) - np.log(expected)


@dataclass(frozen=True)
class Scored:
    """The scores of N units, which are images or groups of images."""

    scores: Floats
    """[N]: high for members."""
    member: NDArray[np.bool_]
    """[N]."""
    strata: Ints
    """[N]: hospital and class; members are compared with non-members in the same proportions of these."""
    groups: Ints
    """[N]: units of one group are drawn together in a bootstrap."""

    @property
    def non_members(self) -> int:
        return int((~self.member).sum())


def by_group(images: Scored) -> Scored:
    """One unit per group, with the mean score of its images, and member and stratum of the first.

    No group has members and non-members: a split never separates one.
    """
    names, first, member = np.unique(images.groups, return_index=True, return_inverse=True)
    means = np.bincount(member, weights=images.scores) / np.bincount(member)
    return Scored(means, images.member[first], images.strata[first], names)


@dataclass(frozen=True)
class AttackFigures:
    """How well an attack separates members from non-members; intervals are over groups."""

    members: int
    non_members: int
    """Units in strata that have both kinds."""
    auc: float
    interval: Interval | None
    """None if members or non-members are of fewer than two groups."""
    rates: list[DetectionRate]
    """At those of FALSE_POSITIVE_RATES for which there are enough non-members."""


def measure(units: Scored, generator: np.random.Generator) -> AttackFigures | None:
    """The figures of an attack; None if members and non-members have no stratum in common.

    Members are weighted so that each stratum counts among them as it does among the non-members.
    """
    units = _in_common_strata(units)
    if not len(units.scores):
        return None
    weights, rates = match_strata(units), [rate for rate in FALSE_POSITIVE_RATES if _resolves(units, rate)]
    auc, *found = np.clip(_figures(units, weights[np.newaxis], rates)[0], 0.0, 1.0).tolist()
    over_groups = _intervals(units, weights, rates, generator)
    return AttackFigures(
        members=int(units.member.sum()),
        non_members=units.non_members,
        auc=auc,
        interval=over_groups[0],
        rates=[
            DetectionRate(false_positive_rate=rate, true_positive_rate=value, interval=interval)
            for rate, value, interval in zip(rates, found, over_groups[1:], strict=True)
        ],
    )


def _in_common_strata(units: Scored) -> Scored:
    common = np.intersect1d(units.strata[units.member], units.strata[~units.member])
    kept = np.isin(units.strata, common)
    return Scored(units.scores[kept], units.member[kept], units.strata[kept], units.groups[kept])


def match_strata(units: Scored) -> Floats:
    """[N]: 1 for non-members, for members the number of non-members per member of their stratum; strata have both kinds."""
    _, stratum = np.unique(units.strata, return_inverse=True)
    size = int(stratum.max()) + 1
    inside = np.bincount(stratum[units.member], minlength=size)
    outside = np.bincount(stratum[~units.member], minlength=size)
    return np.where(units.member, (outside / inside)[stratum], 1.0)


def _resolves(units: Scored, rate: float) -> bool:
    """Whether so small a rate means at least one non-member and, for the smallest rate, at least one group of them."""
    counted = units.non_members if rate > min(FALSE_POSITIVE_RATES) else _group_count(units, inside=False)
    return counted * rate >= 1 - EPSILON


def _group_count(units: Scored, *, inside: bool) -> int:
    return len(np.unique(units.groups[units.member == inside]))


def _figures(units: Scored, weights: Floats, rates: Sequence[float]) -> Floats:
    """[R, 1 + rates]: area under the ROC curve, then sensitivity at each rate, with the weights [R, N] of R samples."""
    order = np.argsort(-units.scores, kind="stable")
    starts = np.flatnonzero(np.diff(units.scores[order], prepend=np.nan) != 0)  # images with one score come together
    member, drawn = units.member[order], weights[:, order]
    sensitivity, fallout = (_cumulated(drawn * kind, starts) for kind in (member, ~member))
    area = np.sum(np.diff(fallout, axis=1) * (sensitivity[:, 1:] + sensitivity[:, :-1]) / 2, axis=1)
    at_rates = [np.max(sensitivity, axis=1, where=fallout <= rate + EPSILON, initial=0.0) for rate in rates]
    return np.stack([area, *at_rates], axis=1)


def _cumulated(weights: Floats, starts: NDArray[np.intp]) -> Floats:
    """[R, 1 + thresholds]: the fraction of each row's weight at or above each threshold, from 0; NaN in a row of zeros."""
    sums = np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1)
    fractions = np.divide(sums, sums[:, -1:], out=np.full_like(sums, np.nan), where=sums[:, -1:] > 0)
    return np.concatenate([np.zeros((len(sums), 1)), fractions], axis=1)


def _intervals(
    units: Scored, weights: Floats, rates: Sequence[float], generator: np.random.Generator
) -> list[Interval | None]:
    """The intervals of the area and of each rate, from a bootstrap over the groups of members and of non-members."""
    if min(_group_count(units, inside=inside) for inside in (True, False)) < 2:
        return [None] * (1 + len(rates))
    parts = [
        _figures(units, weights * _drawn(units, count, generator), rates)
        for count in _portions(REPLICATES, REPLICATES_AT_ONCE)
    ]
    return [interval(values) for values in np.concatenate(parts).T]


def _portions(total: int, portion: int) -> list[int]:
    return [min(portion, total - start) for start in range(0, total, portion)]


def _drawn(units: Scored, count: int, generator: np.random.Generator) -> Floats:
    """[count, N]: how often each unit is in each sample."""
    drawn = np.zeros((count, len(units.scores)))
    for chosen in (units.member, ~units.member):
        _, group = np.unique(units.groups[chosen], return_inverse=True)
        drawn[:, chosen] = draw_groups(units.groups[chosen], count, generator)[:, group]
    return drawn
