"""Intervals by resampling groups, and the paired comparison of two models."""

import numpy as np
import pytest

from medisync.evaluation.bootstrap import draw_groups, mcnemar, paired_interval, percentile_interval


def test_a_sample_has_as_many_groups_as_there_are() -> None:
    draws = draw_groups(np.array([7, 7, 7, 9]), 500, np.random.default_rng(0))
    assert draws.shape == (500, 2)
    assert set(draws.sum(axis=1)) == {2}
    assert draws[:, 0].mean() == pytest.approx(1, abs=0.1)  # each group is as likely, however many images it has
    assert draw_groups(np.zeros(0, np.int64), 5, np.random.default_rng(0)).shape == (5, 0)


def test_an_interval_leaves_out_one_sample_in_forty_on_each_side() -> None:
    values = np.append(
        np.arange(41.0), np.nan
    )  # in steps of 2.5 %; a sample where the figure is undefined does not count
    assert percentile_interval(values) == (1, 39)


def test_mcnemar_by_hand() -> None:
    # five images only the first gets right, none only the second: two-sided 2 / 2^5
    ours, theirs = np.array([True] * 8), np.array([False] * 5 + [True] * 3)
    assert mcnemar(ours, theirs) == pytest.approx(2 / 32)
    assert mcnemar(ours, ours) == 1.0


def test_a_paired_interval_is_empty_between_equals_and_wider_for_groups() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = np.array([True, True, False, True] * 10), np.array([True, False, True, False] * 10)
    assert paired_interval(ours, ours, np.arange(40), generator) == (0.0, 0.0)
    alone, together = (
        paired_interval(np.sort(ours), theirs[np.argsort(ours)], groups, np.random.default_rng(1))
        for groups in (np.arange(40), np.arange(40) // 10)
    )
    assert alone[0] < (ours.mean() - theirs.mean()) < alone[1]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
