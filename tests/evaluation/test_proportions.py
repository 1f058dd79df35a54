"""Exact bounds of fractions, where a closed form exists."""

import pytest

from medisync.evaluation.proportions import lower_bound, upper_bound


def test_none_of_eighty_bounds_the_fraction_by_what_would_leave_none_so_often() -> None:
    # (1 - p)^80 = 0.05
    assert upper_bound(0, 80, 0.95) == pytest.approx(1 - 0.05 ** (1 / 80))
    assert lower_bound(80, 80, 0.95) == pytest.approx(0.05 ** (1 / 80))


def test_nothing_is_bounded_beyond_none_and_all() -> None:
    assert lower_bound(0, 5, 0.95) == 0
    assert upper_bound(5, 5, 0.95) == 1


def test_both_bounds_mirror_each_other() -> None:
    assert lower_bound(7, 40, 0.9) == pytest.approx(1 - upper_bound(33, 40, 0.9))
