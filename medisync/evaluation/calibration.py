"""The choices that validation data decide: the temperature, the OOD threshold and the prediction sets.

Everything is fitted to totals that hospitals can add up, so that no image and no single prediction leaves a hospital.
"""

import math

import numpy as np

from medisync.evaluation.metrics import brier_score, compute_metrics
from medisync.evaluation.totals import (
    EPSILON,
    NONCONFORMITY_EDGES,
    OOD_SCORE_EDGES,
    TEMPERATURES,
    Floats,
    Totals,
    nonconformity_scores,
)
from medisync.schemas import LABELS, Calibration, Label

IN_DISTRIBUTION_FRACTION = 0.95
COVERAGE = 0.90


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


def summarise(before: Totals, after: Totals, temperature: float) -> Calibration:
    """The record of a calibration, from validation totals at temperature 1 and at the fitted temperature."""
    return Calibration(
        temperature=temperature,
        distance_threshold=fit_ood_threshold(after),
        conformal_threshold=fit_conformal_threshold(after),
        ece_before=compute_metrics(before).ece,
        ece_after=compute_metrics(after).ece,
        brier_before=brier_score(before),
        brier_after=brier_score(after),
    )
