"""Charts from records: titles, values, gaps and undefined figures."""

import factories
import numpy as np
import pytest

from medisync.reporting import headlines
from medisync.reporting.charts import (
    dataset_composition,
    model_comparison,
    performance,
    scans,
    slices,
    theme,
    training_curves,
)
from medisync.reporting.charts.theme import Chart
from medisync.reporting.formatting import CLASS_NAMES
from medisync.schemas import LABELS, HistoryEntry, Label, Metrics, Prediction

UNDEFINED = Metrics(
    n=0, loss=None, accuracy=None, balanced_accuracy=None, macro_f1=None, per_class={}, confusion_matrix=[[0] * 4] * 4, ece=None
)  # fmt: skip


def test_roc_curves_name_their_areas_and_leave_out_undefined_classes() -> None:
    chart = performance.roc(factories.metrics(factories.MATRICES["NIMHANS Bengaluru"]))
    assert [line.name for line in chart.figure.data[1:]] == [
        "Glioma 0.910",
        "Meningioma 0.910",
        "Pituitary tumour 0.910",
    ]
    assert "0.910" in chart.title


def test_confusion_matrix_shows_counts_and_row_fractions() -> None:
    matrix = [[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    chart = performance.confusion(factories.metrics(matrix))
    cells = chart.figure.data[0].text
    assert cells[0][0] == "3<br>75.0\N{NO-BREAK SPACE}%"
    assert cells[3][3] == "0<br>–"  # no scan of the class: its fraction is undefined, not 0
    assert chart.title == "Most frequent error: glioma predicted as meningioma (1 scan)"


def test_undefined_metrics_are_drawn_as_nothing() -> None:
    assert performance.confusion(UNDEFINED).title == "No scan was misclassified"
    assert performance.reliability(UNDEFINED).title == "Reliability diagram"
    assert [figure.value for figure in headlines.test_metrics(UNDEFINED, {"A": UNDEFINED, "B": UNDEFINED})] == ["–"] * 4


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


def test_rounds_without_validation_are_not_gaps_in_its_curve() -> None:
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


def test_the_first_hundredth_of_many_rounds_does_not_compress_the_others() -> None:
    entries = many_rounds()
    entries[0] = entries[0].model_copy(update={"train_loss": 40.0})
    assert tuple(training_curves.losses(entries, 1).figure.layout.yaxis.range) == pytest.approx((0, 1.05 * 1.31))
    entries[1] = entries[1].model_copy(update={"train_loss": 40.0})
    assert tuple(training_curves.losses(entries, 1).figure.layout.yaxis.range) == pytest.approx((0, 1.05 * 40))
    assert training_curves.losses(factories.history(), 1).figure.layout.yaxis.range is None
    sizes = training_curves.update_sizes(many_rounds(), 1, ["AIIMS Delhi"]).figure
    assert tuple(sizes.layout.yaxis.range) == pytest.approx(
        (0, 1.05 * 5)
    )  # 3 / round + place, third hospital, first of six


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


def test_class_bars_show_every_hospital_beside_the_others() -> None:
    bars = dataset_composition.class_bars(factories.datasets()).figure.data
    assert [bar.name for bar in bars] == ["Glioma", "Meningioma", "Pituitary tumour", "No tumour"]
    assert bars[0].x == ("AIIMS Delhi", "NIMHANS Bengaluru", "Tata Memorial Mumbai")
    assert [bar.y for bar in bars] == [(400, 300, 180), (380, 160, 140), (420, 200, 20), (500, 0, 0)]


def test_loss_and_accuracy_have_a_panel_each_with_the_selected_round_marked() -> None:
    figure = training_curves.loss_and_accuracy(factories.history(), 5).figure
    assert [line.xaxis for line in figure.data] == ["x", "x", "x2", "x2"]
    assert figure.data[1].y == (1.31, 0.92, 0.71, 0.55, 0.44, 0.47)
    assert figure.data[3].y == pytest.approx((42, 63, 75, 85, 91, 90))
    assert [line.x0 for line in figure.layout.shapes] == [5, 5]
    assert len({line.name for line in figure.data if line.showlegend}) == 2


def test_forest_plot_names_each_model_with_its_accuracy() -> None:
    chart = model_comparison.accuracies(factories.baselines())
    assert [point.y for point in chart.figure.data] == [("Federated",), ("AIIMS Delhi<br>alone",), ("Pooled",)]
    assert {point.text for point in chart.figure.data} == {"89.6\N{NO-BREAK SPACE}%"}  # (113 + 85 + 91 + 74) / 405


def test_an_exported_figure_has_its_title_inside_and_the_chart_stays_as_it_was() -> None:
    chart = Chart("A <b> " + "long title " * 12, training_curves.losses(factories.history(), 5).figure, "")
    titled = chart.titled()
    assert titled.layout.title.text.startswith("A &lt;b&gt; long title")
    assert titled.layout.title.text.count("<br>") == 1  # 138 characters, 95 a line
    assert titled.layout.height == chart.figure.layout.height + 14 + 2 * 22
    assert chart.figure.layout.title.text is None


def test_grid_of_scans_goes_row_by_row_and_leaves_a_missing_scan_empty() -> None:
    scan = np.zeros((4, 6), np.uint8)
    chart = scans.grid([(scan, "A: glioma"), (None, "A: none"), (scan, "B: glioma")], 2, "Scans")
    assert [(image.xaxis, image.source[:22]) for image in chart.figure.data] == [
        ("x", "data:image/png;base64,"),
        ("x3", "data:image/png;base64,"),
    ]
    assert [note.text for note in chart.figure.layout.annotations] == ["A: glioma", "A: none", "B: glioma"]
    assert chart.alt == "Scans: A: glioma; B: glioma."


def test_a_prediction_is_a_scan_a_heat_map_and_probabilities() -> None:
    found = Prediction(
        label="glioma",
        confidence=0.9,
        probabilities={"glioma": 0.9, "meningioma": 0.05, "pituitary": 0.03, "notumor": 0.02},
        plausible=["glioma"],
        distance=1,
        unlike_training=True,
        checks=[],
        notes=[],
    )
    chart = scans.prediction(np.zeros((8, 8), np.uint8), np.zeros((8, 8)), found, "Meningioma")
    assert [each.type for each in chart.figure.data] == ["image", "image", "bar"]
    assert chart.figure.data[2].x == pytest.approx((90, 5, 3, 2))
    assert chart.title == (
        "Predicted: glioma, 90.0\N{NO-BREAK SPACE}%; true class: meningioma. "
        "Out of distribution: do not rely on it. Research use only, not a diagnosis."
    )
    judged = found.model_copy(update={"verdict": "no answer", "reasons": ["out of distribution"]})
    silent = scans.prediction(np.zeros((8, 8), np.uint8), np.zeros((8, 8)), judged, "Meningioma")
    assert silent.title == (
        "No answer (out of distribution); leaned to glioma, 90.0\N{NO-BREAK SPACE}%; true class: meningioma. "
        "Research use only, not a diagnosis."
    )
    assert [note.text for note in silent.figure.layout.annotations][1] == "Warmer: contributed more"


def along(outcomes: dict[int, Label | None], flagged: set[int] = frozenset()) -> dict[int, Prediction | str]:
    """Returns a prediction of 70 % for each class given, by slice number, and a reason for None."""
    return {
        number: Prediction(
            label=label,
            confidence=0.7,
            probabilities={each: 0.7 if each == label else 0.1 for each in LABELS},
            plausible=[label],
            distance=1,
            unlike_training=number in flagged,
            checks=[],
            notes=[],
        )
        if label
        else "the image has no content"
        for number, label in outcomes.items()
    }


def test_probabilities_along_a_volume_have_gaps_where_there_is_no_prediction() -> None:
    found = along({1: None, 2: "glioma", 3: "glioma", 4: None, 5: "notumor"}, flagged={2, 3})
    chart = slices.along_slices(found, shown=3)
    lines = {line.name: line for line in chart.figure.data}
    assert [line.name for line in chart.figure.data[:4]] == list(CLASS_NAMES.values())
    assert lines["Glioma"].x == (1, 2, 3, 4, 5)
    assert lines["Glioma"].y == (None, 70, 70, None, 10)
    assert lines["Glioma"].connectgaps is False
    assert {lines[name].line.color for name in CLASS_NAMES.values()} == set(theme.CLASS_COLOURS.values())
    assert lines["Out of distribution"].x == (2, 3)
    assert lines["No prediction"].x == (1, 4)
    assert [line.x0 for line in chart.figure.layout.shapes] == [3]
    assert chart.title == "Along 5 slices: 2 glioma, 1 no tumour and 2 without prediction"
    assert chart.alt == (
        "Most probable class along the slices: no prediction on slice 1; glioma on slices 2 to 3; no prediction on slice 4; "
        "no tumour on slice 5. Out of distribution: slices 2 to 3. The slice shown: 3."
    )


def test_slices_without_an_answer_and_with_doubt_are_marked() -> None:
    verdicts = {1: "no answer", 2: "answer", 3: "doubt", 4: "no answer"}
    found = along(dict.fromkeys(verdicts, "glioma"), flagged={4})
    judged = {number: found[number].model_copy(update={"verdict": each}) for number, each in verdicts.items()}  # type: ignore[union-attr]
    chart = slices.along_slices(judged, shown=2)
    marks = {line.name: line for line in chart.figure.data[4:]}
    assert {name: mark.x for name, mark in marks.items()} == {"No answer": (1, 4), "Answer with doubt": (3,)}
    assert len({mark.marker.symbol for mark in marks.values()}) == 2
    assert chart.title == "Along 4 slices: 2 glioma and 2 without an answer"
    assert (
        "no answer on slice 1; glioma on slices 2 to 3; no answer on slice 4. Answer with doubt: slice 3." in chart.alt
    )
    assert slices.key(judged) == (
        "Dotted line: the slice shown. Crosses: no answer. Triangles: answer with doubt. Circles: no prediction."
    )
    before = "Dotted line: the slice shown. Crosses: out of distribution. Circles: no prediction."
    assert slices.key(found) == before


def test_a_volume_without_doubts_has_no_marks() -> None:
    chart = slices.along_slices(along({1: "glioma", 2: "glioma"}), shown=1)
    assert len(chart.figure.data) == len(LABELS)
    assert "Out of distribution" not in chart.alt
    assert chart.title == "Along 2 slices: 2 glioma"
