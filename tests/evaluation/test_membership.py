"""Scores of membership, their areas and rates, worked out by hand."""

import numpy as np
import pytest

from medisync.evaluation.membership import (
    Scored,
    by_group,
    loss_scores,
    margin_scores,
    match_strata,
    measure,
    reference_scores,
)

LOG = np.log


def units(
    scores: list[float], member: list[int], strata: list[int] | None = None, groups: list[int] | None = None
) -> Scored:
    count = len(scores)
    return Scored(
        np.array(scores, float),
        np.array(member, bool),
        np.array(strata or [0] * count),
        np.array(groups or range(count)),
    )


def area(*given: list[float]) -> float:
    found = measure(units(*given), np.random.default_rng(0))
    assert found is not None
    return found.auc


def test_the_loss_score_is_the_log_probability_of_the_true_class() -> None:
    logits = LOG([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]])
    assert np.exp(loss_scores(np.array([1, 3]), logits)) == pytest.approx([0.25, 0.4])


def test_the_margin_is_the_logit_of_the_true_class_above_the_largest_other() -> None:
    logits = np.array([[5.0, 2.0, 1.0, 0.0], [5.0, 2.0, 1.0, 0.0]])
    assert margin_scores(np.array([0, 2]), logits).tolist() == [3.0, -4.0]  # 5 - 2; 1 - 5


def test_log_odds_order_images_as_the_loss_does_and_the_margin_does_not() -> None:
    """The reason why the margin, not the log odds, is the second attack."""
    logits = LOG([[0.4, 0.6, 0.0001, 0.0001], [0.38, 0.31, 0.31, 0.0001]])
    loss, margin = loss_scores(np.array([0, 0]), logits), margin_scores(np.array([0, 0]), logits)
    odds = loss - np.log1p(-np.exp(loss))
    assert loss[0] > loss[1]
    assert odds[0] > odds[1]
    assert margin[0] < margin[1]


def test_the_reference_score_is_the_probability_over_what_is_expected_of_models_that_never_saw_the_image() -> None:
    target = LOG([[0.8, 0.2], [0.8, 0.2]])
    references = [LOG([[0.6, 0.4], [0.1, 0.9]]), LOG([[0.2, 0.8], [0.5, 0.5]])]
    informed = [np.array([True, False]), np.array([True, True])]
    ratio = np.exp(reference_scores(np.array([0, 0]), target, references, informed))
    # means 0.4 and 0.5; expected (1.3 * 0.4 + 0.7) / 2 = 0.61 and (1.3 * 0.5 + 0.7) / 2 = 0.675
    assert ratio == pytest.approx([0.8 / 0.61, 0.8 / 0.675])


def test_references_tell_a_memorised_hard_image_from_an_easy_one() -> None:
    """The losses of the member and of the non-member are equal; only the member is hard for the reference."""
    labels, target = np.array([0, 0]), LOG([[0.9, 0.1], [0.9, 0.1]])
    found = reference_scores(labels, target, [LOG([[0.2, 0.8], [0.9, 0.1]])], [np.array([True, True])])
    assert area([*loss_scores(labels, target)], [1, 0]) == 0.5
    assert area([*found], [1, 0]) == 1.0


@pytest.mark.parametrize("references", [0, 1])
def test_without_a_reference_that_knows_the_class_the_loss_is_left(references: int) -> None:
    labels, target = np.array([1]), LOG([[0.7, 0.3]])
    found = reference_scores(labels, target, [LOG([[0.999, 0.001]])] * references, [np.array([False])] * references)
    assert found == pytest.approx(loss_scores(labels, target))


def test_a_group_has_the_mean_score_of_its_images() -> None:
    groups = by_group(units([1.0, 3.0, 7.0, 5.0], [1, 1, 0, 0], [4, 4, 2, 3], [20, 20, 10, 30]))
    assert groups.groups.tolist() == [10, 20, 30]
    assert groups.scores.tolist() == [7.0, 2.0, 5.0]
    assert groups.member.tolist() == [False, True, False]
    assert groups.strata.tolist() == [2, 4, 3]


def test_the_area_is_the_fraction_of_pairs_in_the_right_order_and_ties_count_half() -> None:
    assert area([3, 1, 2, 0], [1, 1, 0, 0]) == pytest.approx(3 / 4)  # 3 > 2, 3 > 0, 1 > 0 of four pairs
    assert area([1, 1], [1, 0]) == pytest.approx(1 / 2)
    assert area([2, 1, 1, 0], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)


def test_members_count_as_if_they_had_the_class_mix_of_the_non_members() -> None:
    """Class 0 is easy and class 1 hard: without the weights the classes would tell members from non-members."""
    scores, member, strata = [9, 9, 9, 1, 9, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 1, 1, 1]
    assert match_strata(units(scores, member, strata)).tolist() == pytest.approx([1 / 3] * 3 + [3.0] + [1.0] * 4)
    assert area(scores, member, strata) == pytest.approx(0.5)
    assert area(scores, member) > 0.5


def test_a_class_without_non_members_is_left_out() -> None:
    found = measure(units([9, 5, 1], [1, 1, 0], [7, 0, 0]), np.random.default_rng(0))
    assert found is not None
    assert (found.members, found.non_members, found.auc) == (1, 1, 1.0)
    assert measure(units([9, 1], [1, 0], [7, 0]), np.random.default_rng(0)) is None


def test_members_found_at_one_percent_false_positives() -> None:
    """Of 200 non-members two may be taken for members: the third, 197, ends it, and 40 of 100 members lie above."""
    scores = [*range(200), *[198.5] * 30, *[197.5] * 10, *[-1.0] * 60]
    found = measure(units([float(each) for each in scores], [0] * 200 + [1] * 100), np.random.default_rng(0))
    assert found is not None
    (rate,) = found.rates
    assert (rate.false_positive_rate, rate.true_positive_rate) == (0.01, pytest.approx(0.4))
    assert rate.interval is not None
    assert rate.interval.low <= 0.4 <= rate.interval.high


@pytest.mark.parametrize(
    ("non_members", "groups", "rates"),
    [(99, 99, []), (100, 2, [0.01]), (1000, 999, [0.01]), (1000, 1000, [0.01, 0.001])],
)
def test_a_rate_is_given_only_where_there_are_enough_non_members(
    non_members: int, groups: int, rates: list[float]
) -> None:
    drawn = np.random.default_rng(0).normal(size=non_members + 2).tolist()
    own = [number % groups for number in range(non_members)]
    found = measure(units(drawn, [0] * non_members + [1, 1], None, [*own, 5000, 5001]), np.random.default_rng(0))
    assert found is not None
    assert [each.false_positive_rate for each in found.rates] == rates


def test_related_images_make_the_interval_wider() -> None:
    generator = np.random.default_rng(3)
    scores, member = generator.normal(size=400).repeat(10), np.arange(4000) < 2000
    apart, together = (
        measure(Scored(scores, member, np.zeros(4000, int), groups), np.random.default_rng(0))
        for groups in (np.arange(4000), np.arange(400).repeat(10))
    )
    assert apart is not None
    assert together is not None
    assert apart.auc == together.auc
    widths = [each.interval.high - each.interval.low for each in (apart, together) if each.interval]
    assert widths[1] == pytest.approx(np.sqrt(10) * widths[0], rel=0.15)


def test_one_group_has_no_interval() -> None:
    found = measure(units([3, 2, 1, 0], [1, 1, 0, 0], None, [1, 1, 2, 3]), np.random.default_rng(0))
    assert found is not None
    assert (found.auc, found.interval) == (1.0, None)
