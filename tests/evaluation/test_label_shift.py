"""Class frequencies of scans without labels: derived by hand where probabilities are certain, and simulated elsewhere."""

import numpy as np
import pytest

from medisync.evaluation.label_shift import (
    LabelShift,
    estimate_label_shift,
    maximise_likelihood,
    nearest_within,
    why_unstable,
)
from medisync.evaluation.totals import softmax

UNIFORM = np.full(4, 0.25)
SKEWED = np.array([0.1, 0.2, 0.3, 0.4])


def estimate(probabilities: np.ndarray, assumed: np.ndarray = UNIFORM, groups: np.ndarray | None = None) -> LabelShift:
    members = np.arange(len(probabilities)) if groups is None else groups
    return estimate_label_shift(probabilities, assumed, members, np.random.default_rng(0))


def certain(*counts: int) -> np.ndarray:
    """Probabilities of 1 for so many scans of each class."""
    return np.eye(4)[np.repeat(np.arange(4), counts)]


def simulated(count: int, prior: np.ndarray, assumed: np.ndarray, separation: float) -> np.ndarray:
    """Exact probabilities under the prior `assumed` for scans drawn under `prior`, a Gaussian of width 1 for each class."""
    generator = np.random.default_rng(7)
    centres = separation * np.eye(4)
    points = centres[generator.choice(4, size=count, p=prior)] + generator.standard_normal((count, 4))
    return softmax(-((points[:, np.newaxis] - centres) ** 2).sum(axis=2) / 2 + np.log(assumed))


def test_certain_probabilities_give_the_fractions_of_the_classes_whatever_prior_they_assume() -> None:
    probabilities = certain(6, 3, 0, 1)
    found = maximise_likelihood(probabilities, SKEWED, np.ones((1, 10)), UNIFORM[np.newaxis])
    assert found[0] == pytest.approx([0.6, 0.3, 0.0, 0.1], abs=1e-6)
    assert estimate(probabilities).estimate == pytest.approx([0.6, 0.3, 0.0, 0.1], abs=1e-6)


def test_two_kinds_of_scans_give_the_root_of_the_likelihood() -> None:
    """A scan of probabilities 0.8, 0.2 and w of 0.4, 0.6: log(.2 + .6 q) + w log(.6 - .2 q) is largest where
    .6 / (.2 + .6 q) = .2 w / (.6 - .2 q): at q = 4 / 3 for w = 1, so that the best fraction is 1, and at 1 / 2 for w = 3.
    """
    rows = np.array([[0.8, 0.2], [0.4, 0.6]])
    found = maximise_likelihood(rows, np.full(2, 0.5), np.array([[1.0, 1.0], [1.0, 3.0]]), np.full((2, 2), 0.5))
    assert found[0] == pytest.approx([1, 0], abs=0.01)
    assert found[1] == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("assumed", [UNIFORM, SKEWED], ids=["uniform", "skewed"])
def test_known_frequencies_are_found_again(assumed: np.ndarray) -> None:
    prior = np.array([0.55, 0.05, 0.1, 0.3])
    probabilities = simulated(800, prior, assumed, separation=2.5)
    found = estimate(probabilities, assumed)
    assert found.estimate == pytest.approx(prior, abs=0.05)
    assert ((found.intervals[:, 0] <= prior) & (prior <= found.intervals[:, 1])).all()
    assert why_unstable(found) == ""
    assert np.abs(probabilities.mean(axis=0) - prior).max() > 0.05  # the mean of the probabilities alone is no estimate


def test_probabilities_that_say_nothing_give_back_the_assumed_prior_and_are_refused() -> None:
    found = estimate(np.tile(SKEWED, (500, 1)), SKEWED)
    assert found.estimate == pytest.approx(SKEWED)
    assert found.prior == pytest.approx(SKEWED, abs=0.005)
    assert "is known only to lie between" in why_unstable(found)


def test_few_scans_that_are_hard_to_tell_apart_are_refused_and_many_are_not() -> None:
    few, many = (estimate(simulated(count, UNIFORM, UNIFORM, separation=1.5)) for count in (60, 3000))
    assert "a width of at most 30 points is accepted; bring more scans" in why_unstable(few)
    assert why_unstable(many) == ""


def test_halves_that_differ_are_refused() -> None:
    found = LabelShift(UNIFORM, np.tile([0.2, 0.3], (4, 1)), UNIFORM, halves_difference=0.41, scans=60, groups=60)
    assert why_unstable(found) == (
        "two halves of the scans differ by 41 points in the fraction of a class, at most 40 are accepted; bring more scans"
    )


def test_a_class_that_is_in_no_scan_is_not_ruled_out() -> None:
    """Fifty scans of one class: its interval begins at q = 0.025^(1/50), and the other classes share the rest."""
    found, q = estimate(certain(50, 0, 0, 0)), 0.025 ** (1 / 50)
    assert found.intervals == pytest.approx(np.array([[q, 1], *[[0, 1 - q]] * 3]), abs=1e-6)
    rest = (1 - q) / 3
    assert found.prior == pytest.approx([(50 * q + 1) / 54, *[(50 * rest + 1) / 54] * 3], abs=1e-6)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([[0, 1]] * 4, [0.1, 0.2, 0.3, 0.4]),
        ([[0.05, 0.2], [0.1, 0.3], [0.2, 0.4], [0.3, 0.5]], [0.1, 0.2, 0.3, 0.4]),
        ([[0, 1], [0, 1], [0, 1], [0, 0.1]], [0.15, 0.3, 0.45, 0.1]),
        ([[0.4, 0.6], [0, 1], [0, 1], [0, 1]], [0.4, 0.2 / 1.5, 0.2, 0.4 / 1.5]),
    ],
    ids=["all", "inside", "one is rarer", "one is more frequent"],
)
def test_the_prior_moves_only_as_far_as_the_intervals_demand(
    intervals: list[list[float]], expected: list[float]
) -> None:
    assert nearest_within(SKEWED, np.array(intervals)) == pytest.approx(expected)


def test_groups_are_drawn_whole() -> None:
    """Sixty scans of two patients are two observations: the drawn fraction is 0, a half or 1."""
    alone, grouped = (estimate(certain(30, 30, 0, 0), groups=groups) for groups in (None, np.repeat([0, 1], 30)))
    assert grouped.groups == 2
    assert grouped.intervals[0] == pytest.approx([0, 1], abs=1e-6)
    assert alone.intervals[0, 1] - alone.intervals[0, 0] < 0.3
    assert grouped.halves_difference == pytest.approx(1, abs=1e-6)


def test_the_same_generator_gives_the_same_estimate() -> None:
    probabilities = simulated(100, UNIFORM, UNIFORM, separation=2)
    one, other = estimate(probabilities), estimate(probabilities)
    assert np.array_equal(one.intervals, other.intervals)
    assert one.halves_difference == other.halves_difference
