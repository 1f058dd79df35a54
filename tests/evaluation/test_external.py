"""Figures of scans from elsewhere beside those of the hospitals, from scores chosen by hand."""

import numpy as np
import pytest
from scores import totals_of

from medisync.evaluation.external import external_figures, false_positive_rate, score_histograms
from medisync.evaluation.totals import Totals, tally_others
from medisync.schemas import Calibration

TUMOUR, HEALTHY = 0, 3
FITTED = Calibration(temperature=1, distance_threshold=2, ece_before=None, ece_after=None)


def totals(labels: list[int], log_odds: list[float], ood_scores: list[float]) -> Totals:
    """Totals of scans with these log odds of "no tumour"; the other three classes are equally likely."""
    logits = np.zeros((len(labels), 4))
    logits[:, HEALTHY] = np.array(log_odds) + np.log(3)
    return totals_of(labels, logits, ood_scores=np.array(ood_scores), ood_threshold=2.0)


def others(ood_scores: list[float]) -> Totals:
    count = len(ood_scores)
    return tally_others(
        np.zeros((count, 4)), np.arange(count), ood_scores=np.array(ood_scores), ood_threshold=FITTED.distance_threshold
    )


INSIDE = score_histograms(totals([TUMOUR, TUMOUR, HEALTHY, HEALTHY], [-6.1, -4.1, 2.1, -2.1], [1, 1, 1, 2]))


def test_areas_compare_external_scans_with_each_other_and_with_the_hospitals() -> None:
    outside = totals([TUMOUR, HEALTHY, HEALTHY], [-3.1, -1.1, -5.1], [1.5, 1.5, 3])
    found = external_figures(outside, others([1.5, 3]), INSIDE, FITTED)
    assert found.tumour_auc == 1 / 2  # -1 > -3, -5 < -3
    assert found.tumour_auc_external_healthy == 3 / 4  # only -5 is below one of -6 and -4
    assert found.tumour_auc_external_tumours == 1  # -3 is below the hospitals' 2 and -2
    assert found.ood_auc_other == 7 / 8  # 1.5 is above three of four, 3 above all
    assert found.ood_fpr95_other == 1 / 4  # both are flagged from 1.5 on, with the hospitals' 2
    assert found.ood_auc_known == pytest.approx((3 + 3 + 4) / 12)
    assert found.ood_fpr95_known == 1 / 4
    assert found.known is not None
    assert found.known.confusion_matrix[HEALTHY] == [2, 0, 0, 0]
    assert found.known.selective is not None
    assert found.known.selective.flagged == pytest.approx(1 / 3)
    assert found.other_selective is not None
    assert found.other_selective.flagged == 1 / 2


def test_what_has_only_one_side_is_undefined() -> None:
    healthy = external_figures(totals([HEALTHY], [-1], [1]), others([]), INSIDE, FITTED)
    assert healthy.tumour_auc is None
    assert healthy.tumour_auc_external_healthy == 1
    assert healthy.tumour_auc_external_tumours is None
    assert (healthy.other_selective, healthy.ood_auc_other, healthy.ood_fpr95_other) == (None, None, None)
    alone = external_figures(totals([TUMOUR, HEALTHY], [-1, 1], [1, 1]), others([1]), None, FITTED)
    assert alone.tumour_auc == 1
    assert (alone.tumour_auc_external_healthy, alone.ood_auc_known, alone.ood_fpr95_other) == (None, None, None)
    only_others = external_figures(totals([], [], []), others([3]), INSIDE, FITTED)
    assert only_others.known is None
    assert only_others.ood_auc_other == 1


def test_the_false_positive_rate_is_taken_where_enough_positives_lie_above() -> None:
    # 19 of 20 positives lie in the last two cells, with 2 of 4 negatives
    negatives, positives = np.array([0, 2, 1, 1]), np.array([1, 0, 9, 10])
    assert false_positive_rate(negatives, positives, 0.95) == 2 / 4
    assert false_positive_rate(negatives, positives, 0.96) == 4 / 4
    assert false_positive_rate(negatives, positives, 0.5) == 1 / 4
