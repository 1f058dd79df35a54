"""Selective prediction: a handful of scans with known confidences, and intervals against a bootstrap."""

import numpy as np
import pytest
from scores import totals_of

from medisync.evaluation.bootstrap import draw_groups, percentile_interval
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.selective import selective_metrics
from medisync.evaluation.totals import Totals, tally_others

GLIOMA, MENINGIOMA = 0, 1
FAR = {"ood_threshold": 2.0}


def logits(*answers: tuple[int, float]) -> np.ndarray:
    """Logits of scans that get these answers with these confidences; the other classes share the rest."""
    probabilities = [[(1 - confidence) / 3] * 4 for _, confidence in answers]
    for row, (answer, confidence) in zip(probabilities, answers, strict=True):
        row[answer] = confidence
    return np.log(np.array(probabilities).reshape(-1, 4))


def others(*answers: tuple[int, float], ood_scores: list[float], groups: list[int]) -> Totals:
    return tally_others(logits(*answers), np.array(groups, np.int64), ood_scores=np.array(ood_scores), **FAR)


def test_five_gliomas_of_which_one_is_flagged_by_hand() -> None:
    answers = [(GLIOMA, 0.951), (MENINGIOMA, 0.931), (MENINGIOMA, 0.951), (MENINGIOMA, 0.505), (GLIOMA, 0.505)]
    totals = totals_of([GLIOMA] * 5, logits(*answers), ood_scores=np.array([1.0, 1, 3, 1, 1]), **FAR)
    found = compute_metrics(totals).selective
    assert found is not None
    assert (found.n, found.flagged, found.confidently_wrong) == (5, 1 / 5, 1 / 5)  # the second, not the flagged third
    points = [(point.coverage, point.risk, point.confidence) for point in found.points]
    assert points == [(1 / 5, 0, 0.94), (2 / 5, 1 / 2, 0.92), (4 / 5, 2 / 4, 0.5)]


def test_confidence_counts_from_nine_tenths_on() -> None:
    totals = totals_of([GLIOMA] * 2, logits((MENINGIOMA, 0.9001), (MENINGIOMA, 0.8999)))
    found = selective_metrics(totals)
    assert found is not None
    assert (found.confidently_wrong, found.flagged) == (1 / 2, 0)


def test_every_answer_for_a_scan_of_none_of_the_classes_is_wrong() -> None:
    totals = others((GLIOMA, 0.95), (GLIOMA, 0.5), (GLIOMA, 0.99), ood_scores=[1, 1, 3], groups=[0, 1, 2])
    found = selective_metrics(totals)
    assert found is not None
    assert (found.n, found.flagged, found.confidently_wrong) == (3, 1 / 3, 1 / 3)
    assert [(point.coverage, point.risk) for point in found.points] == [(1 / 3, 1), (2 / 3, 1)]
    assert totals.ood_scores.sum() == 3
    assert not totals.confusion.any()


def test_there_is_nothing_to_say_of_no_scans() -> None:
    assert selective_metrics(others(ood_scores=[], groups=[])) is None
    assert compute_metrics(totals_of([], np.zeros((0, 4)))).selective is None


def test_the_covariance_of_the_outcomes_is_that_of_whole_groups() -> None:
    # one group of two confidently wrong scans, one of a doubtful one, drawn twice: see test_totals
    answers = [(GLIOMA, 0.95), (GLIOMA, 0.95), (GLIOMA, 0.5)]
    totals = others(*answers, ood_scores=[1, 1, 1], groups=[7, 7, 9])
    assert totals.outcome_covariance.tolist() == [[2, 0, -1], [0, 0, 0], [-1, 0, 0.5]]


def test_a_fraction_of_nothing_or_of_everything_has_no_interval() -> None:
    """A bootstrap of 0 of 40 gives 0 to 0, as if no more scans could change it."""
    totals = others(*[(GLIOMA, 0.5)] * 40, ood_scores=[1] * 20 + [3] * 20, groups=list(range(40)))
    found = selective_metrics(totals)
    assert found is not None
    assert found.confidently_wrong == 0
    assert found.intervals.keys() == {"flagged"}
    alike = selective_metrics(others(*[(GLIOMA, 0.5)] * 3, ood_scores=[3] * 3, groups=[0, 0, 1]))
    assert alike is not None
    assert (alike.flagged, alike.intervals) == (1, {})


def test_intervals_agree_with_a_bootstrap_over_groups_and_need_covariances() -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 100, 300)
    chosen = logits(*[(MENINGIOMA, confidence) for confidence in generator.uniform(0.7, 1, 300)])
    scores = generator.uniform(0, 2.5, 300)
    options = {"ood_scores": scores, "groups": groups.tolist(), **FAR}
    found = selective_metrics(totals_of([GLIOMA] * 300, chosen, covariances=True, **options))
    without = selective_metrics(totals_of([GLIOMA] * 300, chosen, **options))
    assert found is not None
    assert without is not None
    assert without.intervals == {}
    _, member = np.unique(groups, return_inverse=True)
    draws = draw_groups(groups, 4000, generator)
    misled = (scores <= 2) & (np.exp(chosen).max(axis=1) >= 0.9)
    for name, counted in (("flagged", scores > 2), ("confidently_wrong", misled)):
        fractions = (draws @ np.bincount(member, weights=counted)) / (draws @ np.bincount(member))
        interval = found.intervals[name]
        assert (interval.low, interval.high) == pytest.approx(percentile_interval(fractions), abs=0.02)
