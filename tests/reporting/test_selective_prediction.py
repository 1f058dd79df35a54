"""Charts of what is answered, inside and outside the hospitals: values, titles and missing parts."""

import factories
import pytest

from medisync.reporting import outside
from medisync.reporting.charts import selective_prediction, theme
from medisync.schemas import AnswerFigures, Metrics

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def inside() -> Metrics:
    return factories.meta().metrics.test


def test_what_is_answered_adds_up_to_all_scans(inside: Metrics) -> None:
    chart = selective_prediction.answers(inside, factories.external())
    right, wrong, sure, flagged = (bar.x for bar in chart.figure.data)
    assert [bar.name for bar in chart.figure.data] == list(theme.ANSWER_COLOURS)
    assert [bar.marker.pattern.shape for bar in chart.figure.data] == ["", "", "", "/"]
    assert right[1:] == pytest.approx((45, 0))  # 0.9 * 0.5; none of the classes is never right
    assert wrong[1:] == pytest.approx((32.5, 60))  # 0.9 * 0.5 - 0.125; 0.8 - 0.2
    assert sure == pytest.approx((1, 12.5, 20))
    assert flagged == pytest.approx((5, 10, 20))
    assert [sum(parts) for parts in zip(right, wrong, sure, flagged, strict=True)] == pytest.approx([100] * 3)
    assert chart.title == f"Confidently wrong: up to 20.0{SPACE}% (other clinic: none of the classes)"
    assert f"other clinic: none of the classes: right 0.0{SPACE}%, wrong 60.0{SPACE}%" in chart.alt


def test_sets_with_similar_names_have_a_bar_each(inside: Metrics) -> None:
    (found,) = factories.external().values()
    chart = selective_prediction.answers(inside, {"x" * 30 + "1": found, "x" * 30 + "2": found})
    assert [len(set(bar.y)) for bar in chart.figure.data] == [5] * 4


def test_a_curve_ends_where_all_scans_that_are_not_flagged_are_answered(inside: Metrics) -> None:
    chart = selective_prediction.risk_coverage(inside, factories.external())
    ours, theirs = chart.figure.data
    assert (ours.name, theirs.name) == ("hospitals' test scans", "other clinic")
    assert theirs.x == pytest.approx((45, 72, 90))  # 0.5, 0.8 and all of the 90 % that are not flagged
    assert theirs.y == pytest.approx((10, 25, 50))
    assert theirs.marker.size == (0, 0, 10)
    assert ours.x[-1] == pytest.approx(95)
    assert f"other clinic 50.0{SPACE}%" in chart.title
    assert ours.line.color != theirs.line.color
    assert ours.line.dash != theirs.line.dash


def test_calibration_outside_stands_beside_that_inside(inside: Metrics) -> None:
    chart = selective_prediction.reliability(inside, factories.external())
    _, ours, theirs = chart.figure.data
    assert ours.x == pytest.approx((56, 77, 97))
    assert (theirs.x, theirs.y) == (pytest.approx((60, 95)), pytest.approx((35, 55)))
    assert chart.title == (
        f"Mean gap between confidence and accuracy: hospitals' test scans 2.8{SPACE}%; other clinic 38.0{SPACE}%"
    )


def test_what_is_not_answered_is_more_than_what_is_flagged() -> None:
    inside = outside.inside(factories.meta(thresholds=(0.6, 0.8)).metrics)
    chart = selective_prediction.answers(inside, factories.external(judged=True))
    right, wrong, sure, none = (bar.x for bar in chart.figure.data)
    assert none == pytest.approx((10, 50, 90))
    assert right == pytest.approx((83.7, 40, 0))  # 0.9 * 0.93, 0.5 * 0.8
    assert sure == pytest.approx((1, 10, 10))  # of 12.5 % and 20 %, what is answered: 0.5 * 0.2, 0.1 * 1
    assert wrong == pytest.approx((5.3, 0, 0))
    assert [bar.name for bar in chart.figure.data] == [*list(theme.ANSWER_COLOURS)[:3], "No answer"]
    assert f"no answer 90.0{SPACE}%" in chart.alt


def test_both_thresholds_are_marked_on_every_curve_that_has_answers() -> None:
    inside = outside.inside(factories.meta(thresholds=(0.6, 0.8)).metrics)
    chart = selective_prediction.risk_coverage(inside, factories.external(judged=True))
    ours, theirs, sure, answered = chart.figure.data
    assert [mark.name for mark in (sure, answered)] == list(selective_prediction.MARKS)
    assert (sure.x, sure.y) == (pytest.approx((80, 30)), pytest.approx((4, 10)))
    assert (answered.x, answered.y) == (pytest.approx((90, 50)), pytest.approx((7, 20)))
    assert sure.marker.color == (ours.line.color, theirs.line.color)
    assert sure.marker.symbol != answered.marker.symbol
    assert chart.title == f"Wrong among all answers: hospitals' test scans 7.0{SPACE}%; other clinic 20.0{SPACE}%"
    assert f"threshold of all answers: 50.0{SPACE}% answered, 20.0{SPACE}% of these wrong" in chart.alt
    silent = factories.with_answers(
        inside.selective, AnswerFigures(coverage=0, risk=None), AnswerFigures(coverage=0.9, risk=0.07)
    )  # fmt: skip
    (_, only) = selective_prediction.risk_coverage(inside.model_copy(update={"selective": silent}), {}).figure.data
    assert only.name == "Threshold of all answers"


def test_without_external_scans_the_hospitals_stand_alone(inside: Metrics) -> None:
    assert [line.name for line in selective_prediction.risk_coverage(inside, {}).figure.data] == [
        "hospitals' test scans"
    ]
    assert [len(bar.x) for bar in selective_prediction.answers(inside, {}).figure.data] == [1] * 4


def test_a_run_from_before_it_was_measured_has_nothing_to_show(inside: Metrics) -> None:
    old = inside.model_copy(update={"selective": None})
    assert selective_prediction.answers(old, {}).title == "What the model answers"
    assert selective_prediction.risk_coverage(old, {}).title == "Risk and coverage"
