"""Records -> figures; no streamlit, no torch. Training curves are in `curves`, the map in `hospital_map`.

A hospital has one colour and one symbol everywhere, a class one colour everywhere. Both palettes keep at least 3:1
against the light and the dark background, and stay apart for colour-blind eyes or are told apart by symbol and label.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from medisync import images
from medisync.dashboard.words import CLASS_NAMES, axis_label, count, interval, percent, plain
from medisync.dashboard.words import escape as markdown
from medisync.errors import ImageError
from medisync.records import (
    LABELS,
    AuditRecord,
    DatasetStats,
    Label,
    Metrics,
    ModelMeta,
    Overlap,
    Prediction,
    ReliabilityBin,
)

HOSPITAL_COLOURS = ("#0077BB", "#E07020", "#009988", "#CC3377", "#7A6A00", "#8855CC")


HOSPITAL_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


CLASS_COLOURS: Mapping[Label, str] = {
    "glioma": "#CC4466",
    "meningioma": "#997A00",
    "pituitary": "#6A5ACD",
    "notumor": "#80868E",
}


NEUTRAL = "#80868E"


GLOBAL = "#0B8793"
"""The global model, in the theme's own hue."""


@dataclass(frozen=True)
class Chart:
    """A figure with the title above it and the text for who cannot see it."""

    title: str
    figure: go.Figure
    alt: str


def hospital_colours(names: Iterable[str]) -> dict[str, str]:
    return {name: HOSPITAL_COLOURS[index % len(HOSPITAL_COLOURS)] for index, name in enumerate(names)}


def hospital_symbols(names: Iterable[str]) -> dict[str, str]:
    return {name: HOSPITAL_SYMBOLS[index % len(HOSPITAL_SYMBOLS)] for index, name in enumerate(names)}


def layout(figure: go.Figure, *, x: str = "", y: str = "", height: int = 320) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28 if len(figure.data) > 1 else 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": None},
        hoverlabel={"align": "left"},
        bargap=0.35,
    )
    figure.update_xaxes(title=x, automargin=True)
    figure.update_yaxes(title=y, automargin=True)
    return figure


HEAT_COLOURS = ((0, 0, 0), (120, 20, 110), (235, 90, 40), (255, 235, 130))
"""From cold to hot, each brighter than the one before, so that eyes that see no colour see heat as light."""


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating], opacity: float) -> NDArray[np.uint8]:
    """A grey image uint8 [S, S] under a heat map [S, S] from 0 to 1, as RGB uint8 [S, S, 3]; cold places stay grey."""
    steps = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.stack([np.interp(heat, steps, channel) for channel in np.transpose(HEAT_COLOURS)], axis=2)
    cover = (opacity * np.clip(2 * heat, 0, 1))[..., np.newaxis]
    return np.rint(pixels[..., np.newaxis] * (1 - cover) + colours * cover).astype(np.uint8)


THUMBNAIL = 48


def thumbnail(content: bytes) -> str:
    """A small picture of an image file as a data address; empty where it cannot be read."""
    try:
        picture = Image.fromarray(images.decode(content).pixels)
    except ImageError:
        return ""
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def class_distribution(datasets: Mapping[str, DatasetStats]) -> Chart:
    """One bar per hospital, one segment per class."""
    names = list(datasets)
    figure = go.Figure([_class_bars(label, datasets) for label in LABELS])
    figure.update_layout(barmode="stack", legend_traceorder="normal", uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(tickformat=",")
    figure.update_yaxes(autorange="reversed", tickvals=names, ticktext=[axis_label(name) for name in names])
    mixes = [f"{name}: {_mix(datasets[name])}" for name in names]
    return Chart(
        _distribution_title(datasets),
        layout(figure, x="Scans used", height=150 + 56 * len(names)),
        "Scans used by hospital and class. " + "; ".join(mixes),
    )


def _class_bars(label: Label, datasets: Mapping[str, DatasetStats]) -> go.Bar:
    numbers = [stats.class_distribution.get(label, 0) for stats in datasets.values()]
    legible = 0.04 * max((stats.total for stats in datasets.values()), default=0)
    return go.Bar(
        name=CLASS_NAMES[label],
        orientation="h",
        x=numbers,
        y=list(datasets),
        marker_color=CLASS_COLOURS[label],
        text=[f"{number:,}" if number > legible else "" for number in numbers],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont_color="white",
        constraintext="inside",
        hovertemplate=f"%{{y}}<br>{CLASS_NAMES[label]}: %{{x:,}} scans<extra></extra>",
    )


def _distribution_title(datasets: Mapping[str, DatasetStats]) -> str:
    incomplete = sum(any(not stats.class_distribution.get(label) for label in LABELS) for stats in datasets.values())
    if not incomplete:
        return "Every hospital has all four classes"
    return f"{incomplete} of {count(len(datasets), 'hospital')} {'lacks' if incomplete == 1 else 'lack'} a class"


def _mix(stats: DatasetStats) -> str:
    return ", ".join(f"{stats.class_distribution.get(label, 0)} {CLASS_NAMES[label].lower()}" for label in LABELS)


def found_and_used(stats: DatasetStats) -> Chart:
    """One hospital's scans by class: those that were found, and within them those that the run used."""
    names = [CLASS_NAMES[label] for label in LABELS]
    figure = go.Figure()
    for title, numbers, colours in (
        ("Found", stats.found, [NEUTRAL] * len(LABELS)),
        ("Used", stats.class_distribution, list(CLASS_COLOURS.values())),
    ):
        figure.add_bar(
            name=title,
            x=[numbers.get(label, 0) for label in LABELS],
            y=names,
            orientation="h",
            marker={"color": colours, "opacity": 0.35 if title == "Found" else 1},
            text=[f"{numbers.get(label, 0):,}" for label in LABELS],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"%{{y}}<br>{title.lower()}: %{{x:,}} scans<extra></extra>",
        )
    figure.update_layout(barmode="group", showlegend=False)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickformat=",")
    kept, found = stats.total, sum(stats.found.values()) or stats.total
    return Chart(
        f"{count(kept, 'scan')} of {found:,} found are used, by class (pale: found)",
        layout(figure, x="Scans", height=330),
        f"Scans by class. Used: {_mix(stats)}. Found: {found:,} in all.",
    )


def overlap(audit: AuditRecord) -> Chart:
    """How many of a hospital's scans (row) another one (column) has too."""
    names = list(audit.hospitals)
    shared = {(pair.hospital, pair.other): pair.images for pair in audit.overlaps}
    cells = [[None if row == column else shared.get((row, column), 0) for column in names] for row in names]
    labels = [axis_label(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=labels,
            y=labels,
            texttemplate="%{z:,}",
            showscale=False,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hovertemplate="%{z:,} scans of %{y}<br>show a slice that %{x} has too<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    found = [f"{pair.images} scans of {pair.hospital} are in {pair.other} too" for pair in audit.overlaps]
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    alt = "; ".join(found) or "No hospital has a scan that another one has."
    title = _overlap_title(audit.overlaps)
    return Chart(title, layout(figure, x="… is in this hospital too", y="A scan of this hospital …", height=360), alt)


def _overlap_title(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "No two hospitals share a scan"
    most = max(overlaps, key=lambda pair: pair.images)
    return f"{count(most.images, 'scan')} of {markdown(most.hospital)} show slices that {markdown(most.other)} has too"


def confusion(metrics: Metrics) -> Chart:
    """Counts, with the share of the row (the true class) below them and as the colour."""
    labels = [CLASS_NAMES[label].replace(" ", "<br>") for label in LABELS]
    shares = [[cell / sum(row) if sum(row) else None for cell in row] for row in metrics.confusion_matrix]
    texts = [
        [f"{cell:,}<br>{percent(share)}" for cell, share in zip(row, row_shares, strict=True)]
        for row, row_shares in zip(metrics.confusion_matrix, shares, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=labels,
            y=labels,
            text=texts,
            texttemplate="%{text}",
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="true: %{y}<br>predicted: %{x}<br>%{text} of this true class<extra></extra>",
        )
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Chart(
        _confusion_title(metrics),
        layout(figure, x="Predicted class", y="True class", height=420),
        "Confusion matrix, rows true, columns predicted, classes " + f"{', '.join(LABELS)}: {metrics.confusion_matrix}",
    )


def _confusion_title(metrics: Metrics) -> str:
    """Names the most frequent mistake: it is what a reader looks for first."""
    wrong = [
        (cell, LABELS[row], LABELS[column])
        for row, cells in enumerate(metrics.confusion_matrix)
        for column, cell in enumerate(cells)
        if row != column and cell
    ]
    if not wrong:
        return "No scan was given a wrong class"
    most, true, predicted = max(wrong, key=lambda mistake: mistake[0])
    names = f"{CLASS_NAMES[true].lower()} taken for {CLASS_NAMES[predicted].lower()}"
    return f"Most frequent mistake: {names} ({count(most, 'scan')})"


def reliability(metrics: Metrics) -> Chart:
    """Accuracy against confidence; on the diagonal, a confidence of 80 % is right in 80 % of the cases."""
    bins = [found for found in metrics.reliability if found.images]
    figure = go.Figure(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "dash": "dot"}, hoverinfo="skip")
    )
    figure.add_scatter(**_reliability_points(bins))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(tickformat=".0%", range=[0, 1.03])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05])
    return Chart(
        "Confidence against accuracy"
        if metrics.ece is None
        else f"Confidence and accuracy differ by {percent(metrics.ece)} on average",
        layout(figure, x="Confidence", y="Accuracy", height=420),
        "Reliability diagram. " + "; ".join(f"confidence {b.confidence:.2f}: accuracy {b.accuracy:.2f}" for b in bins),
    )


def _reliability_points(bins: Sequence[ReliabilityBin]) -> dict[str, object]:
    largest = max((found.images for found in bins), default=1)
    return {
        "x": [found.confidence for found in bins],
        "y": [found.accuracy for found in bins],
        "customdata": [found.images for found in bins],
        "mode": "lines+markers",
        "line_color": GLOBAL,
        "marker": {"size": [8 + 16 * math.sqrt(found.images / largest) for found in bins], "opacity": 0.9},
        "hovertemplate": "confidence %{x:.1%}<br>accuracy %{y:.1%}<br>%{customdata:,} scans<extra></extra>",
    }


def roc(metrics: Metrics) -> Chart:
    """One curve per class, the class against the rest; the diagonal is chance."""
    known = {label: found for label, found in metrics.per_class.items() if found.roc}
    figure = go.Figure(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "dash": "dot"}, hoverinfo="skip")
    )
    figure.data[0].showlegend = False
    for (label, found), dash in zip(known.items(), ("solid", "dash", "dashdot", "longdash"), strict=False):
        figure.add_scatter(
            name=f"{CLASS_NAMES[label]} {found.auc:.3f}",
            x=[point[0] for point in found.roc],
            y=[point[1] for point in found.roc],
            mode="lines",
            line={"color": CLASS_COLOURS[label], "dash": dash, "width": 2.5},
            hovertemplate=f"{CLASS_NAMES[label]}<br>false positives %{{x:.1%}}<br>sensitivity %{{y:.1%}}<extra></extra>",
        )
    figure.update_xaxes(tickformat=".0%", range=[-0.01, 1.01])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.03])
    words = [f"{CLASS_NAMES[label].lower()} {found.auc:.3f}" for label, found in known.items()]
    return Chart(
        "ROC curves" if metrics.macro_auc is None else f"Area under the ROC curves: {metrics.macro_auc:.3f} on average",
        layout(figure, x="False positive rate", y="Sensitivity", height=420),
        f"ROC curves, class against rest. Areas: {'; '.join(words)}",
    )


def hospital_accuracy(meta: ModelMeta) -> Chart:
    """Test accuracy per hospital with its interval; a hospital without test scans has no point."""
    known = {name: found for name, found in meta.metrics.hospitals.items() if found.accuracy is not None}
    figure, colours, symbols = go.Figure(), hospital_colours(meta.datasets), hospital_symbols(meta.datasets)
    for name, found in known.items():
        figure.add_scatter(**_accuracy_point(name, found, colours.get(name, NEUTRAL), symbols.get(name, "circle")))
    figure.update_layout(showlegend=False)
    figure.update_yaxes(autorange="reversed", tickvals=list(known), ticktext=[axis_label(name) for name in known])
    figure.update_xaxes(tickformat=".0%")
    words = [
        f"{name}: {percent(found.accuracy)} ({interval(found.intervals.get('accuracy'))})"
        for name, found in known.items()
    ]
    return Chart(
        _spread_title(known),
        layout(figure, x="Test accuracy (95 % interval)", height=130 + 60 * len(known)),
        "Test accuracy by hospital. " + "; ".join(words),
    )


def _accuracy_point(name: str, metrics: Metrics, colour: str, symbol: str) -> dict[str, object]:
    accuracy, found = metrics.accuracy or 0.0, metrics.intervals.get("accuracy")
    bars = {"array": [found.high - accuracy], "arrayminus": [accuracy - found.low]} if found else {"array": [0]}
    text = f"{escape(plain(name))}<br>{percent(accuracy)}<br>{interval(found)}<br>{count(metrics.n, 'test scan')}"
    return {
        "x": [accuracy],
        "y": [name],
        "mode": "markers",
        "error_x": {"type": "data", "symmetric": False, **bars, "color": colour, "thickness": 2, "width": 6},
        "marker": {"color": colour, "symbol": symbol, "size": 13},
        "hovertemplate": f"{text}<extra></extra>",
    }


def _spread_title(known: Mapping[str, Metrics]) -> str:
    values = sorted(found.accuracy for found in known.values() if found.accuracy is not None)
    if len(values) < 2:
        return "Test accuracy by hospital"
    points = (values[-1] - values[0]) * 100
    return f"The global model's accuracy differs by {points:.1f} percentage points between hospitals"


def probabilities(prediction: Prediction) -> Chart:
    """All classes, in their fixed order."""
    values = [prediction.probabilities.get(label, 0.0) for label in LABELS]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=values,
            y=[CLASS_NAMES[label] for label in LABELS],
            text=[percent(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            marker_color=[CLASS_COLOURS[label] for label in LABELS],
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0, 1.15], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    alt = ", ".join(f"{CLASS_NAMES[label]} {percent(value)}" for label, value in zip(LABELS, values, strict=True))
    return Chart("Probability of each class", layout(figure, x="Calibrated probability", height=230), alt)
