"""Selective prediction: what a model answers, and how often wrongly, if it gives no answer for scans that it flags."""

import numpy as np

from medisync.evaluation.bootstrap import REPLICATES, intervals, sample_counts
from medisync.evaluation.totals import (
    CONFIDENCE_EDGES,
    CONFIDENT,
    CONFIDENTLY_WRONG,
    CORRECT,
    EPSILON,
    FLAGGED,
    UNANSWERED,
    WRONG,
    Ints,
    Totals,
)
from medisync.schemas import AnswerFigures, Calibration, Interval, SelectiveMetrics, SelectivePoint


def selective_metrics(totals: Totals, fitted: Calibration | None = None) -> SelectiveMetrics | None:
    """Which fraction is flagged, which is wrong all the same, and the risk-coverage curve; None without images.

    What the verdicts are worth needs the thresholds fitted on validation.
    """
    selective, count = totals.selective, int(totals.selective.sum())
    if not count:
        return None
    misled = int(selective[WRONG, CONFIDENCE_EDGES[:-1] >= CONFIDENT - EPSILON].sum())
    flagged = int(selective[FLAGGED].sum())
    return SelectiveMetrics(
        n=count,
        flagged=flagged / count,
        confidently_wrong=misled / count,
        intervals=_intervals(np.array([misled, flagged, count - misled - flagged]), totals),
        without_doubt=_answer_figures(selective, fitted.answer_threshold if fitted else None),
        answered=_answer_figures(selective, fitted.doubt_threshold if fitted else None),
        points=_risk_coverage(selective, count),
    )


def _answer_figures(selective: Ints, threshold: float | None) -> AnswerFigures | None:
    """What is answered from this confidence on, to the width of a cell."""
    if threshold is None:
        return None
    cells = CONFIDENCE_EDGES[:-1] >= threshold - EPSILON
    correct, wrong = (int(selective[row, cells].sum()) for row in (CORRECT, WRONG))
    answered = correct + wrong
    return AnswerFigures(coverage=answered / selective.sum(), risk=wrong / answered if answered else None)


def _intervals(outcomes: Ints, totals: Totals) -> dict[str, Interval]:
    """Intervals of both fractions where the covariance is known; a bootstrap cannot bound a fraction of 0 or of 1."""
    covariance = totals.outcome_covariance
    samples = sample_counts(outcomes, covariance, REPLICATES if covariance.any() else 0)
    fractions = samples / np.maximum(samples.sum(axis=1, keepdims=True), 1)
    columns = {"flagged": UNANSWERED, "confidently_wrong": CONFIDENTLY_WRONG}
    return intervals(
        {name: fractions[:, column] for name, column in columns.items() if 0 < outcomes[column] < outcomes.sum()}
    )


def _risk_coverage(selective: Ints, count: int) -> list[SelectivePoint]:
    """One point for each cell of confidence that holds answers, from the highest down."""
    answers, wrong = selective[CORRECT] + selective[WRONG], selective[WRONG]
    answered, mistaken = (np.cumsum(row[::-1])[::-1] for row in (answers, wrong))
    return [
        SelectivePoint(
            coverage=answered[cell] / count,
            risk=mistaken[cell] / answered[cell],
            confidence=round(float(CONFIDENCE_EDGES[cell]), 2),
        )
        for cell in np.flatnonzero(answers)[::-1]
    ]
