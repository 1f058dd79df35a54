"""What validation decides about trust: the temperature, when a scan is unlike the training scans, the prediction sets.

Everything is fitted to totals that hospitals can add up, so that no image and no single prediction leaves a hospital.
"""

import math

import numpy as np

from medisync.evaluation.metrics import brier_score, compute_metrics
from medisync.evaluation.totals import (
    CONFORMITY_EDGES,
    DISTANCE_EDGES,
    EPSILON,
    TEMPERATURES,
    Floats,
    Totals,
    nonconformity,
)
from medisync.schemas import LABELS, Calibration, Label

USUAL_SHARE = 0.95
COVERAGE = 0.90


def fit_temperature(totals: Totals) -> float:
    """The temperature, out of TEMPERATURES, with the least validation cross-entropy.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    return float(TEMPERATURES[totals.loss_by_temperature.argmin()])


def fit_distance_threshold(totals: Totals) -> float:
    """The distance from the training scans that 95 % of the validation images stay below, to a histogram cell (0.4 %)."""
    cumulative = np.cumsum(totals.distances) / max(1, totals.distances.sum())
    return float(DISTANCE_EDGES[min(int(np.searchsorted(cumulative, USUAL_SHARE)) + 1, len(DISTANCE_EDGES) - 1)])


def fit_conformal_threshold(totals: Totals) -> float:
    """The nonconformity up to which a class belongs to the prediction set, so that 90 % of the sets hold the true class.

    Split conformal prediction: the ceil((n + 1) 0.9)-th smallest score of n validation images, to the width of a
    histogram cell; Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511. 1, the set of all classes, where there
    are too few images to promise anything.
    """
    scores = totals.conformity[0]
    count = int(scores.sum())
    rank = math.ceil((count + 1) * COVERAGE)
    if rank > count:
        return 1.0
    return float(CONFORMITY_EDGES[int(np.searchsorted(np.cumsum(scores), rank)) + 1])


def prediction_set(probabilities: Floats, threshold: float) -> list[Label]:
    """The classes that cannot be ruled out, most probable first, from probabilities [K]; never empty."""
    strangeness = nonconformity(probabilities[np.newaxis])[0]
    order = np.argsort(-probabilities, kind="stable")
    return [LABELS[k] for k in order if strangeness[k] <= threshold + EPSILON]


def summarise(before: Totals, after: Totals, temperature: float) -> Calibration:
    """The record of a calibration from validation totals at temperature 1 and at the fitted one."""
    return Calibration(
        temperature=temperature,
        distance_threshold=fit_distance_threshold(after),
        conformal_threshold=fit_conformal_threshold(after),
        ece_before=compute_metrics(before).ece,
        ece_after=compute_metrics(after).ece,
        brier_before=brier_score(before),
        brier_after=brier_score(after),
    )
