"""The choices that validation data decide: the temperature, the OOD threshold and the prediction sets.

Everything is fitted to totals that hospitals can add up, so that no image and no single prediction leaves a hospital.
"""

import math

import numpy as np
from scipy.special import expit

from medisync.evaluation.metrics import brier_score, compute_metrics
from medisync.evaluation.proportions import upper_bound
from medisync.evaluation.totals import (
    CONFIDENCE_EDGES,
    CORRECT,
    EPSILON,
    LOG_ODDS_EDGES,
    NONCONFORMITY_EDGES,
    OOD_SCORE_EDGES,
    TEMPERATURES,
    WRONG,
    Floats,
    Totals,
    nonconformity_scores,
)
from medisync.schemas import LABELS, Calibration, Label

IN_DISTRIBUTION_FRACTION = 0.95
COVERAGE = 0.90

ANSWER_RISK, DOUBT_RISK = 0.10, 0.20
"""Fractions of the answers without doubt, and of all answers, that may be wrong."""

RISK_FAILURE = 0.1
"""Probability, over the draw of the validation images, that such a fraction is exceeded after all."""

NO_CONFIDENCE = 1.1
"""A threshold that no confidence reaches."""


def fit_temperature(totals: Totals) -> float:
    """The temperature, out of TEMPERATURES, with the least validation cross-entropy.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    return float(TEMPERATURES[totals.loss_by_temperature.argmin()])


def fit_ood_threshold(totals: Totals) -> float:
    """The OOD score below which 95 % of the validation images lie, to the width of a histogram cell (0.4 %)."""
    cumulative = np.cumsum(totals.ood_scores) / max(1, totals.ood_scores.sum())
    cell = int(np.searchsorted(cumulative, IN_DISTRIBUTION_FRACTION))
    return float(OOD_SCORE_EDGES[min(cell + 1, len(OOD_SCORE_EDGES) - 1)])


def fit_conformal_threshold(totals: Totals) -> float:
    """The nonconformity up to which a class is in the prediction set, so that 90 % of the sets hold the true class.

    It is the ceil((n + 1) 0.9)-th smallest score of n validation images, to the width of a histogram cell; 1, which
    gives the set of all classes, where there are too few images to guarantee the coverage.

    Split conformal prediction: Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511.
    """
    scores = totals.nonconformity[0]
    count = int(scores.sum())
    rank = math.ceil((count + 1) * COVERAGE)
    if rank > count:
        return 1.0
    return float(NONCONFORMITY_EDGES[int(np.searchsorted(np.cumsum(scores), rank)) + 1])


def prediction_set(probabilities: Floats, threshold: float) -> list[Label]:
    """The classes that cannot be ruled out, most probable first, from probabilities [K]; never empty."""
    scores = nonconformity_scores(probabilities[np.newaxis])[0]
    order = np.argsort(-probabilities, kind="stable")
    return [LABELS[k] for k in order if scores[k] <= threshold + EPSILON]


def fit_confidence_threshold(totals: Totals, risk: float) -> float:
    """The least confidence found from which at most the fraction `risk` of the scans that are not flagged is misclassified.

    A binary search over the edges of confidence cells. Each candidate is accepted if the upper confidence bound (Clopper &
    Pearson) of its error rate, at a level that makes up for the number of candidates, is no larger than `risk`; so the
    fraction is exceeded with probability RISK_FAILURE at most, if validation images are independent and scans are like
    them. NO_CONFIDENCE if no candidate is accepted.

    Selection with guaranteed risk: Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500.
    """
    answers = totals.selective[CORRECT] + totals.selective[WRONG]
    answered, wrong = (np.cumsum(row[::-1])[::-1] for row in (answers, totals.selective[WRONG]))
    low, high = 0, len(answers)
    level = 1 - RISK_FAILURE / math.ceil(math.log2(high + 1))
    while low < high:
        cell = (low + high) // 2
        if upper_bound(int(wrong[cell]), int(answered[cell]), level) <= risk:
            high = cell
        else:
            low = cell + 1
    return float(CONFIDENCE_EDGES[high]) if high < len(answers) else NO_CONFIDENCE


def mean_probabilities(totals: Totals) -> dict[Label, float] | None:
    """The mean probability of each class over the images, to the width of a cell of log odds; None without images."""
    middles = (LOG_ODDS_EDGES[:-1] + LOG_ODDS_EDGES[1:]) / 2
    sums = totals.ranks.sum(axis=1) @ expit(middles)
    if not sums.any():
        return None
    return {label: float(each) for label, each in zip(LABELS, sums / sums.sum(), strict=True)}


def summarise(before: Totals, after: Totals, temperature: float, ood_threshold: float) -> Calibration:
    """The record of a calibration, from validation totals at temperature 1 and at the fitted temperature.

    In the latter, images beyond `ood_threshold` are flagged.
    """
    answer = fit_confidence_threshold(after, ANSWER_RISK)
    return Calibration(
        temperature=temperature,
        distance_threshold=ood_threshold,
        conformal_threshold=fit_conformal_threshold(after),
        answer_threshold=answer,
        doubt_threshold=min(answer, fit_confidence_threshold(after, DOUBT_RISK)),
        mean_probabilities=mean_probabilities(after),
        answer_risk=ANSWER_RISK,
        doubt_risk=DOUBT_RISK,
        risk_failure=RISK_FAILURE,
        ece_before=compute_metrics(before).ece,
        ece_after=compute_metrics(after).ece,
        brier_before=brier_score(before),
        brier_after=brier_score(after),
    )
