"""Figures, tables and words of the dashboard, from records alone."""

import itertools
import tomllib
from pathlib import Path

import factories
import numpy as np
import pytest

from medisync.reporting import formatting, pictures
from medisync.reporting.charts import dataset_composition, hospital_map, performance, theme, training_curves
from medisync.reporting.tables import metric_tables
from medisync.schemas import DatasetStats, HistoryEntry, Label, Location, Metrics

THEME = tomllib.loads((Path(__file__).parent.parent.parent / ".streamlit" / "config.toml").read_text())["theme"]

UNDEFINED = Metrics(
    n=0, loss=None, accuracy=None, balanced_accuracy=None, macro_f1=None, per_class={}, confusion_matrix=[[0] * 4] * 4, ece=None
)  # fmt: skip


def test_overlay_leaves_cold_places_grey_and_follows_the_opacity() -> None:
    pixels, heat = np.full((2, 2), 100, np.uint8), np.array([[0.0, 1.0], [0.5, 0.0]])
    assert (pictures.overlay(pixels, heat, 0.0) == 100).all()
    drawn = pictures.overlay(pixels, heat, 1.0)
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 1].tolist() == list(pictures.HEAT_COLOURS[-1])
    assert pictures.overlay(pixels, heat, 0.5)[0, 1].tolist() == [178, 168, 115]  # half way, rounded to even


def test_roc_curves_name_their_areas_and_leave_out_undefined_classes() -> None:
    chart = performance.roc(factories.metrics(factories.MATRICES["NIMHANS Bengaluru"]))
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


@pytest.mark.parametrize("background", ["light", "dark"])
@pytest.mark.parametrize("colour", [*theme.HOSPITAL_COLOURS, *theme.CLASS_COLOURS.values(), theme.GLOBAL])
def test_every_colour_stands_out_from_both_backgrounds(background: str, colour: str) -> None:
    assert contrast(colour, THEME[background]["backgroundColor"]) >= 3


LACKING = {
    "nothing": np.eye(3),
    "long cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "middle cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "short cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""Linear RGB as eyes that lack a kind of cones see it: Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113."""


def oklab(colour: str, seen: object) -> np.ndarray:
    """Perceived colour: https://bottosson.github.io/posts/oklab/."""
    parts = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    mixed = np.array(
        [
            [0.2104542553, 0.793617785, -0.0040720468],
            [1.9779984951, -2.428592205, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.808675766],
        ]
    )
    return mixed @ np.cbrt(cones @ np.clip(np.asarray(seen) @ linear, 0, 1))


@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.parametrize(
    "palette", [list(theme.CLASS_COLOURS.values()), list(theme.HOSPITAL_COLOURS[:3])], ids=["classes", "hospitals"]
)
def test_colours_stay_apart_for_eyes_that_lack_cones(palette: list[str], lacking: str) -> None:
    # 0.02 is a just noticeable difference; red and olive were 0.06 apart and hard to match with a legend
    seen = [oklab(colour, LACKING[lacking]) for colour in palette]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 0.09


@pytest.mark.parametrize("colour", [*theme.HOSPITAL_COLOURS, *theme.CLASS_COLOURS.values()])
def test_numbers_on_bars_are_legible(colour: str) -> None:
    ink = {"black": "#000000", "white": "#FFFFFF"}[theme.ink_on(colour)]
    assert contrast(ink, colour) >= 4.5


def test_words_beside_the_axes_are_legible() -> None:
    assert all(contrast(theme.INK[name], THEME[name]["backgroundColor"]) >= 4.5 for name in ("light", "dark"))


def test_a_click_on_a_marker_is_a_click_on_that_hospital() -> None:
    datasets = factories.datasets()
    place = datasets["NIMHANS Bengaluru"].location
    event = {"last_object_clicked": {"lat": place.lat + 0.4, "lng": place.lon - 0.3}}
    assert hospital_map.clicked(event, datasets) == "NIMHANS Bengaluru"
    assert hospital_map.clicked({"last_object_clicked": None}, datasets) is None
    assert hospital_map.clicked(None, datasets) is None


def test_street_tiles_come_only_when_asked_for() -> None:
    page = hospital_map.draw(factories.datasets(), leaflet="", dark=False, online_tiles=True).get_root().render()
    assert "https://tile.openstreetmap.org" in page
    assert "OpenStreetMap" in page


def test_hospitals_and_classes_share_no_colour() -> None:
    assert not set(theme.HOSPITAL_COLOURS) & set(theme.CLASS_COLOURS.values())
    assert THEME["chartCategoricalColors"] == list(theme.HOSPITAL_COLOURS)


def test_confusion_matrix_shows_counts_and_row_shares() -> None:
    matrix = [[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    chart = performance.confusion(factories.metrics(matrix))
    cells = chart.figure.data[0].text
    assert cells[0][0] == "3<br>75.0\N{NO-BREAK SPACE}%"
    assert cells[3][3] == "0<br>–"  # no scan of the class: its share is undefined, not 0
    assert chart.title == "Most frequent mistake: glioma taken for meningioma (1 scan)"


def test_undefined_metrics_are_drawn_as_nothing() -> None:
    assert performance.confusion(UNDEFINED).title == "No scan was given a wrong class"
    assert performance.reliability(UNDEFINED).title == "Confidence against accuracy"
    assert [figure.value for figure in metric_tables.headlines(UNDEFINED)] == ["–"] * 4


def test_class_distribution_says_who_lacks_a_class() -> None:
    chart = dataset_composition.class_distribution(factories.datasets())
    assert chart.title == "2 of 3 hospitals lack a class"
    assert [bar.name for bar in chart.figure.data] == ["Glioma", "Meningioma", "Pituitary tumour", "No tumour"]
    assert chart.figure.data[3].x == (500, 0, 0)


def test_a_round_without_a_hospital_is_a_gap_in_its_curve() -> None:
    chart = training_curves.hospital_losses(factories.history(), 5, list(factories.HOSPITALS))
    tata = chart.figure.data[2]
    assert [value is None for value in tata.y] == [False, False, True, False, False, False]
    assert training_curves.losses(factories.history(), 5).title == "Validation loss was lowest in round 5"


def test_a_single_round_is_a_visible_point() -> None:
    chart = training_curves.accuracies(factories.history()[:1], 1)
    assert chart.figure.data[1].mode == "lines+markers"
    assert tuple(chart.figure.layout.xaxis.range) == (0.5, 1.5)


def test_rounds_without_validation_are_no_gap_in_its_curve() -> None:
    entries = [
        entry
        if entry.epoch % 2 == 0
        else entry.model_copy(update={"val_loss": None, "val_accuracy": None, "hospitals": {}})
        for entry in factories.history()
    ]
    training, validation = training_curves.losses(entries, 6).figure.data
    assert (training.x, validation.x) == ((1, 2, 3, 4, 5, 6), (2, 4, 6))
    assert training_curves.hospital_losses(entries, 6, ["AIIMS Delhi"]).figure.data[0].x == (2, 4, 6)


def many_rounds() -> list[HistoryEntry]:
    """120, more than are drawn with points: the six of the factory over and over."""
    return [entry.model_copy(update={"epoch": 6 * k + entry.epoch}) for k in range(20) for entry in factories.history()]


def test_many_rounds_are_a_line_without_points() -> None:
    assert {line.mode for line in training_curves.accuracies(many_rounds(), 1).figure.data} == {"lines"}


def test_the_first_hundredth_of_many_rounds_does_not_press_the_others_together() -> None:
    entries = many_rounds()
    entries[0] = entries[0].model_copy(update={"train_loss": 40.0})
    assert tuple(training_curves.losses(entries, 1).figure.layout.yaxis.range) == pytest.approx((0, 1.05 * 1.31))
    entries[1] = entries[1].model_copy(update={"train_loss": 40.0})
    assert tuple(training_curves.losses(entries, 1).figure.layout.yaxis.range) == pytest.approx((0, 1.05 * 40))
    assert training_curves.losses(factories.history(), 1).figure.layout.yaxis.range is None


def test_overlap_matrix_has_no_diagonal() -> None:
    chart = dataset_composition.overlap(factories.audit())
    assert chart.figure.data[0].z[0] == [None, 210, 0]
    assert chart.title == "210 scans of AIIMS Delhi show slices that NIMHANS Bengaluru has too"


def test_hospital_keeps_its_colour_across_charts() -> None:
    names = list(factories.HOSPITALS)
    expected = list(theme.hospital_colours(names).values())
    assert [
        line.line.color for line in training_curves.update_sizes(factories.history(), 5, names).figure.data
    ] == expected
    assert [point.marker.color for point in performance.hospital_accuracy(factories.meta()).figure.data] == expected


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
    assert formatting.escape("![x](http://y)") == r"\!\[x\]\(http\://y\)"
    assert formatting.plain("a\nb\u202egnp.exe") == "abgnp.exe"
    assert formatting.plain("x" * 300, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0 s"), (89, "89 s"), (240, "4 min"), (5460, "1 h 31 min")])
def test_duration(seconds: float, shown: str) -> None:
    assert formatting.duration(seconds) == shown


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
    assert formatting.plausible(labels) == said


def test_moment_keeps_what_is_no_time() -> None:
    assert formatting.moment("2026-11-24T09:30:00+00:00") == "24 Nov 2026, 09:30 UTC"
    assert formatting.moment("yesterday") == "yesterday"
