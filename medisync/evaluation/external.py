"""Figures on scans from outside the hospitals, from totals, beside the hospitals' own test scans."""

import numpy as np

from medisync.evaluation.metrics import area_under_curve, compute_metrics
from medisync.evaluation.selective import selective_metrics
from medisync.evaluation.totals import EPSILON, Ints, Totals
from medisync.schemas import LABELS, Calibration, ExternalFigures, ScoreHistograms

NO_TUMOUR = LABELS.index("notumor")
OOD_SENSITIVITY = 0.95


def score_histograms(totals: Totals) -> ScoreHistograms:
    """The scores of the hospitals' test scans with which scans from elsewhere are compared."""
    tumour, healthy = totals.ranks[NO_TUMOUR]
    return ScoreHistograms(tumour=tumour.tolist(), healthy=healthy.tolist(), ood_scores=totals.ood_scores.tolist())


def external_figures(
    known: Totals, other: Totals, inside: ScoreHistograms | None, fitted: Calibration
) -> ExternalFigures:
    """The figures of external scans: `known`, of the four classes, and `other`, of none (see `tally_others`).

    What compares them with the hospitals' test scans is None where those are not known.
    """
    tumour, healthy = known.ranks[NO_TUMOUR]
    ours = [np.array(row, np.int64) for row in (inside.tumour, inside.healthy, inside.ood_scores)] if inside else None
    return ExternalFigures(
        known=compute_metrics(known, fitted) if known.confusion.sum() else None,
        other_selective=selective_metrics(other, fitted),
        tumour_auc=_area(tumour, healthy),
        tumour_auc_external_healthy=_area(ours[0], healthy) if ours else None,
        tumour_auc_external_tumours=_area(tumour, ours[1]) if ours else None,
        ood_auc_known=_area(ours[2], known.ood_scores) if ours else None,
        ood_fpr95_known=false_positive_rate(ours[2], known.ood_scores) if ours else None,
        ood_auc_other=_area(ours[2], other.ood_scores) if ours else None,
        ood_fpr95_other=false_positive_rate(ours[2], other.ood_scores) if ours else None,
    )


def _area(lower: Ints, higher: Ints) -> float | None:
    """The fraction of pairs in which the second has the higher score, from two histograms; None where one is empty."""
    area = float(area_under_curve(np.stack([lower, higher])))
    return None if np.isnan(area) else min(area, 1.0)


def false_positive_rate(negatives: Ints, positives: Ints, sensitivity: float = OOD_SENSITIVITY) -> float | None:
    """The fraction of negatives in or above the highest cell above which, with it, `sensitivity` of the positives lie.

    Takes two histograms of one score; None where one is empty.
    """
    if not (negatives.sum() and positives.sum()):
        return None
    above = np.cumsum(positives[::-1])[::-1]
    cell = int(np.flatnonzero(above >= sensitivity * positives.sum() - EPSILON)[-1])
    return float(negatives[cell:].sum() / negatives.sum())
