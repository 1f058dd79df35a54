"""Numbers, names and text from outside, formatted."""

import pytest

from medisync.reporting import formatting
from medisync.schemas import Interval, Label


def test_text_from_outside_is_shown_as_it_is_written() -> None:
    assert formatting.escape("![x](http://y)") == r"\!\[x\]\(http\://y\)"
    assert formatting.plain("a\nb\u202egnp.exe") == "abgnp.exe"
    assert formatting.plain("x" * 300, 10) == "xxxxxxxxx…"


def test_a_limit_has_no_needless_decimals() -> None:
    shown = [formatting.limit(each).replace("\N{NO-BREAK SPACE}", " ") for each in (0.05, 0.125, 0.84, 1, None)]
    assert shown == ["5 %", "12.5 %", "84 %", "100 %", formatting.NO_VALUE]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0 s"), (89, "89 s"), (240, "4 min"), (5460, "1 h 31 min")])
def test_duration(seconds: float, shown: str) -> None:
    assert formatting.duration(seconds) == shown


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["glioma"], "Glioma only."),
        (["pituitary", "notumor"], "Pituitary tumour or no tumour."),
        (["notumor", "glioma", "meningioma"], "No tumour, glioma or meningioma."),
        (
            ["notumor", "glioma", "meningioma", "pituitary"],
            "All four classes: the model cannot tell them apart on this scan.",
        ),
    ],
)
def test_a_prediction_set_is_a_sentence(labels: list[Label], said: str) -> None:
    assert formatting.prediction_set(labels) == said


def test_moment_returns_text_that_is_not_a_time() -> None:
    assert formatting.moment("2026-11-24T09:30:00+00:00") == "24 Nov 2026, 09:30 UTC"
    assert formatting.moment("yesterday") == "yesterday"


def test_a_fraction_is_a_percentage_and_an_undefined_one_a_dash() -> None:
    assert formatting.percent(0.8964) == "89.6\N{NO-BREAK SPACE}%"
    assert formatting.percent(None) == "–"
    assert formatting.decimal(None) == "–"
    assert formatting.interval(Interval(low=0.866, high=0.921)) == "86.6 to 92.1\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(("p", "shown"), [(0.0004, "< 0.001"), (0.001, "0.001"), (0.21, "0.210"), (1.0, "1.000")])
def test_a_small_p_value_is_a_bound(p: float, shown: str) -> None:
    assert formatting.p_value(p) == shown


@pytest.mark.parametrize(
    ("kind", "trained_at", "name"),
    [
        ("federated", ["A", "B", "C"], "Federated"),
        ("pooled", ["A", "B", "C"], "Pooled"),
        ("local", ["B"], "B alone"),
        ("leave-one-out", ["A", "C"], "All but B"),
    ],
)
def test_a_model_has_one_name(kind: str, trained_at: list[str], name: str) -> None:
    assert formatting.model_name(kind, trained_at, ["A", "B", "C"]) == name


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [formatting.listed(names) for names in (["A"], ["A", "B"], ["A", "B", "C"])] == [
        "A",
        "A and B",
        "A, B and C",
    ]
