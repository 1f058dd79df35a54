"""Charts of a model's performance: confusion matrix, calibration, ROC curves, accuracy by hospital, one prediction."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from medisync.reporting.charts.theme import (
    CLASS_COLOURS,
    CLASS_DASHES,
    GLOBAL,
    NEUTRAL,
    NEUTRAL_SYMBOL,
    WHOLE_PERCENT_AXIS,
    Chart,
    hospital_colours,
    hospital_symbols,
    layout,
    matrix,
    percents,
    scores,
)
from medisync.reporting.formatting import (
    CLASS_NAMES,
    NARROW_CLASS_NAMES,
    axis_label,
    count,
    decimal,
    number,
    percent,
    plain,
    points,
    with_interval,
)
from medisync.schemas import LABELS, Label, Metrics, ModelMeta, Prediction, ReliabilityBin


def confusion(metrics: Metrics) -> Chart:
    """Returns the confusion matrix: counts, and below them and as the colour the fraction of the true class (row)."""
    labels = [NARROW_CLASS_NAMES[label] for label in LABELS]
    fractions = [[cell / sum(row) if sum(row) else None for cell in row] for row in metrics.confusion_matrix]
    texts = [
        [f"{number(cell)}<br>{percent(fraction)}" for cell, fraction in zip(row, of_row, strict=True)]
        for row, of_row in zip(metrics.confusion_matrix, fractions, strict=True)
    ]
    figure = matrix(
        fractions,
        labels,
        labels,
        text=texts,
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        customdata=[[[CLASS_NAMES[true], CLASS_NAMES[predicted]] for predicted in LABELS] for true in LABELS],
        hovertemplate="true: %{customdata[0]}<br>predicted: %{customdata[1]}<br>%{text} of this true class<extra></extra>",
    )
    return Chart(
        _confusion_title(metrics),
        layout(figure, x="Predicted class", y="True class", height=400),
        f"Confusion matrix. {'; '.join(_row_in_words(row) for row in zip(LABELS, metrics.confusion_matrix, strict=True))}.",
    )


def _row_in_words(row: tuple[Label, Sequence[int]]) -> str:
    true, cells = row
    predicted = [f"{number(cell)} {CLASS_NAMES[label].lower()}" for label, cell in zip(LABELS, cells, strict=True)]
    return f"True class {CLASS_NAMES[true].lower()}, predicted as: {', '.join(predicted)}"


def _confusion_title(metrics: Metrics) -> str:
    """Returns the most frequent misclassification, which is what a reader looks for first."""
    wrong = [
        (cell, LABELS[row], LABELS[column])
        for row, cells in enumerate(metrics.confusion_matrix)
        for column, cell in enumerate(cells)
        if row != column and cell
    ]
    if not wrong:
        return "No scan was misclassified"
    most, true, predicted = max(wrong, key=lambda mistake: mistake[0])
    names = f"{CLASS_NAMES[true].lower()} predicted as {CLASS_NAMES[predicted].lower()}"
    return f"Most frequent error: {names} ({count(most, 'scan')})"


def diagonal() -> go.Figure:
    """Returns a plot of percentages on both axes with its diagonal."""
    line = {"color": NEUTRAL, "dash": "dot"}
    figure = go.Figure(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line=line, hoverinfo="skip", showlegend=False))
    figure.update_xaxes(**WHOLE_PERCENT_AXIS)
    figure.update_yaxes(**WHOLE_PERCENT_AXIS)
    return figure


def reliability(metrics: Metrics) -> Chart:
    """Returns a reliability diagram: accuracy against confidence, which agree on the diagonal."""
    bins = [found for found in metrics.reliability if found.images]
    figure = diagonal()
    figure.add_scatter(**reliability_points(bins, GLOBAL))
    return Chart(
        "Reliability diagram"
        if metrics.ece is None
        else f"Reliability: confidence and accuracy differ by {percent(metrics.ece)} on average (larger points: more scans)",
        layout(figure, x="Confidence", y="Accuracy", height=400),
        "Reliability diagram. "
        + "; ".join(f"confidence {percent(each.confidence)}: accuracy {percent(each.accuracy)}" for each in bins),
    )


def reliability_points(bins: Sequence[ReliabilityBin], colour: str) -> dict[str, Any]:
    """Returns the options of a line through the bins of a reliability diagram, with points by the number of scans."""
    largest = max((found.images for found in bins), default=1)
    return {
        "x": percents(found.confidence for found in bins),
        "y": percents(found.accuracy for found in bins),
        "customdata": [found.images for found in bins],
        "mode": "lines+markers",
        "line_color": colour,
        "marker": {"size": [6 + 16 * math.sqrt(found.images / largest) for found in bins], "opacity": 0.9},
        "cliponaxis": False,
        "hovertemplate": "confidence %{x:.1f} %<br>accuracy %{y:.1f} %<br>%{customdata:,} scans<extra></extra>",
    }


def roc(metrics: Metrics) -> Chart:
    """Returns one ROC curve per class, the class against the rest; the diagonal is chance."""
    known = {label: found for label, found in metrics.per_class.items() if found.roc}
    figure = diagonal()
    for label, found in known.items():
        figure.add_scatter(
            name=f"{CLASS_NAMES[label]} {decimal(found.auc)}",
            x=percents(point[0] for point in found.roc),
            y=percents(point[1] for point in found.roc),
            mode="lines",
            line={"color": CLASS_COLOURS[label], "dash": CLASS_DASHES[label], "width": 2.5},
            hovertemplate=f"{CLASS_NAMES[label]}<br>false positive rate %{{x:.1f}} %<br>sensitivity %{{y:.1f}} %"
            "<extra></extra>",
        )
    areas = [f"{CLASS_NAMES[label].lower()} {decimal(found.auc)}" for label, found in known.items()]
    return Chart(
        "ROC curves"
        if metrics.macro_auc is None
        else f"ROC curves: mean area under the curve {decimal(metrics.macro_auc)}",
        layout(figure, x="False positive rate", y="Sensitivity", height=420, legend=True),
        f"ROC curves of each class against the rest. Areas under the curves: {'; '.join(areas)}.",
    )


def hospital_accuracy(meta: ModelMeta) -> Chart:
    """Returns test accuracy per hospital with its interval; a hospital without test scans has no point."""
    known = {name: found for name, found in meta.metrics.hospitals.items() if found.accuracy is not None}
    colours, symbols = hospital_colours(meta.datasets), hospital_symbols(meta.datasets)
    rows = [
        (axis_label(name), found, colours.get(name, NEUTRAL), symbols.get(name, NEUTRAL_SYMBOL))
        for name, found in known.items()
    ]
    spoken = [f"{plain(name)}: {with_interval(found, 'accuracy')}" for name, found in known.items()]
    return Chart(
        _spread_title(known),
        scores(rows, "Test accuracy (95 % interval)"),
        "Test accuracy by hospital. " + "; ".join(spoken),
    )


def _spread_title(known: Mapping[str, Metrics]) -> str:
    values = sorted(found.accuracy for found in known.values() if found.accuracy is not None)
    if len(values) < 2:
        return "Test accuracy by hospital"
    gap = points(values[-1] - values[0]).lstrip("+")
    return f"The global model's accuracy differs by up to {gap} percentage points between hospitals"


def probabilities(prediction: Prediction) -> Chart:
    """Returns the calibrated probability of each class, in their fixed order."""
    values = [prediction.probabilities.get(label, 0.0) for label in LABELS]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=percents(values),
            y=[CLASS_NAMES[label] for label in LABELS],
            text=[percent(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            marker_color=[CLASS_COLOURS[label] for label in LABELS],
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(
        **WHOLE_PERCENT_AXIS | {"range": [0, 140], "dtick": 50}
    )  # room for the numbers at the bars' ends
    alt = ", ".join(f"{CLASS_NAMES[label]} {percent(value)}" for label, value in zip(LABELS, values, strict=True))
    return Chart("Probability of each class", layout(figure, x="Calibrated probability", height=230), alt)
