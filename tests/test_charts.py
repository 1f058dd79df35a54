"""Figures, tables and words of the dashboard, from records alone."""

import tomllib
from pathlib import Path

import factories
import numpy as np
import pytest

from medisync.dashboard import charts, curves, hospital_map, tables, words
from medisync.records import DatasetStats, Label, Location, Metrics

THEME = tomllib.loads((Path(__file__).parent.parent / ".streamlit" / "config.toml").read_text())["theme"]

UNDEFINED = Metrics(
    n=0, loss=None, accuracy=None, balanced_accuracy=None, macro_f1=None, per_class={}, confusion_matrix=[[0] * 4] * 4, ece=None
)  # fmt: skip


def test_overlay_leaves_cold_places_grey_and_follows_the_opacity() -> None:
    pixels, heat = np.full((2, 2), 100, np.uint8), np.array([[0.0, 1.0], [0.5, 0.0]])
    assert (charts.overlay(pixels, heat, 0.0) == 100).all()
    drawn = charts.overlay(pixels, heat, 1.0)
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 1].tolist() == list(charts.HEAT_COLOURS[-1])
    assert charts.overlay(pixels, heat, 0.5)[0, 1].tolist() == [178, 168, 115]  # half way, rounded to even


def test_roc_curves_name_their_areas_and_leave_out_undefined_classes() -> None:
    chart = charts.roc(factories.metrics(factories.MATRICES["NIMHANS Bengaluru"]))
    assert [line.name for line in chart.figure.data[1:]] == [
        "Glioma 0.910",
        "Meningioma 0.910",
        "Pituitary tumour 0.910",
    ]
    assert "0.910 on average" in chart.title


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #RRGGBB colours."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("colour", [*charts.HOSPITAL_COLOURS, *charts.CLASS_COLOURS.values(), charts.GLOBAL])
def test_every_colour_stands_out_from_both_backgrounds(theme: str, colour: str) -> None:
    assert contrast(colour, THEME[theme]["backgroundColor"]) >= 3


def test_hospitals_and_classes_share_no_colour() -> None:
    assert not set(charts.HOSPITAL_COLOURS) & set(charts.CLASS_COLOURS.values())
    assert THEME["chartCategoricalColors"] == list(charts.HOSPITAL_COLOURS)


def test_confusion_matrix_shows_counts_and_row_shares() -> None:
    matrix = [[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    chart = charts.confusion(factories.metrics(matrix))
    cells = chart.figure.data[0].text
    assert cells[0][0] == "3<br>75.0\N{NO-BREAK SPACE}%"
    assert cells[3][3] == "0<br>–"  # no scan of the class: its share is undefined, not 0
    assert chart.title == "Most frequent mistake: glioma taken for meningioma (1 scan)"


def test_undefined_metrics_are_drawn_as_nothing() -> None:
    assert charts.confusion(UNDEFINED).title == "No scan was given a wrong class"
    assert charts.reliability(UNDEFINED).title == "Confidence against accuracy"
    assert [figure.value for figure in tables.headlines(UNDEFINED)] == ["–"] * 4


def test_class_distribution_says_who_lacks_a_class() -> None:
    chart = charts.class_distribution(factories.datasets())
    assert chart.title == "2 of 3 hospitals lack a class"
    assert [bar.name for bar in chart.figure.data] == ["Glioma", "Meningioma", "Pituitary tumour", "No tumour"]
    assert chart.figure.data[3].x == (500, 0, 0)


def test_a_round_without_a_hospital_is_a_gap_in_its_curve() -> None:
    chart = curves.hospital_losses(factories.history(), 5, list(factories.HOSPITALS))
    tata = chart.figure.data[2]
    assert [value is None for value in tata.y] == [False, False, True, False, False, False]
    assert curves.losses(factories.history(), 5).title == "Validation loss was lowest in round 5"


def test_a_single_round_is_a_visible_point() -> None:
    chart = curves.accuracies(factories.history()[:1], 1)
    assert chart.figure.data[1].mode == "lines+markers"
    assert tuple(chart.figure.layout.xaxis.range) == (0.5, 1.5)


def test_overlap_matrix_has_no_diagonal() -> None:
    chart = charts.overlap(factories.audit())
    assert chart.figure.data[0].z[0] == [None, 210, 0]
    assert chart.title == "210 scans of AIIMS Delhi show slices that NIMHANS Bengaluru has too"


def test_hospital_keeps_its_colour_across_charts() -> None:
    names = list(factories.HOSPITALS)
    expected = list(charts.hospital_colours(names).values())
    assert [line.line.color for line in curves.update_sizes(factories.history(), 5, names).figure.data] == expected
    assert [point.marker.color for point in charts.hospital_accuracy(factories.meta()).figure.data] == expected


def test_map_asks_nothing_of_another_host() -> None:
    page = hospital_map.draw(factories.datasets(), leaflet="../own/", dark=True).get_root().render()
    assert "../own/leaflet.js" in page
    assert "http://" not in page
    assert "https://" not in page


def test_map_shows_a_hospital_name_as_text_and_runs_none_of_it() -> None:
    name = "<script>x</script>`${alert(1)}`"
    stats = DatasetStats(total=1, class_distribution={}, location=Location(lat=-33.9, lon=151.2))
    page = hospital_map.draw({name: stats}, leaflet="", dark=False).get_root().render()
    assert "<script>x" not in page
    assert "${alert" not in page
    assert "&lt;script&gt;x" in page


def test_text_from_outside_is_shown_as_it_is_written() -> None:
    assert words.escape("![x](http://y)") == r"\!\[x\]\(http\://y\)"
    assert words.plain("a\nb\u202egnp.exe") == "abgnp.exe"
    assert words.plain("x" * 300, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0 s"), (89, "89 s"), (240, "4 min"), (5460, "1 h 31 min")])
def test_duration(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["glioma"], "Glioma; no other class is plausible."),
        (["pituitary", "notumor"], "Pituitary tumour or no tumour."),
        (["notumor", "glioma", "meningioma"], "No tumour, glioma or meningioma."),
        (["notumor", "glioma", "meningioma", "pituitary"], "Every class is plausible: the model cannot tell."),
    ],
)
def test_a_prediction_set_is_a_sentence(labels: list[Label], said: str) -> None:
    assert words.plausible(labels) == said


def test_moment_keeps_what_is_no_time() -> None:
    assert words.moment("2026-11-24T09:30:00+00:00") == "24 Nov 2026, 09:30 UTC"
    assert words.moment("yesterday") == "yesterday"
