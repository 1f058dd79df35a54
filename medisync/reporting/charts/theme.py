"""What all figures share: the palettes, the layout, a matrix and a score with its interval; no streamlit, no torch.

A hospital has one colour and one symbol everywhere, a class one colour everywhere. All keep at least 3:1 against the light
and the dark background. The four classes and the first three hospitals stay apart for eyes that lack a cone, and symbols,
dashes, labels or their order tell all of them apart where no colour is seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from medisync.reporting.formatting import interval, percent
from medisync.schemas import Label, Metrics

HOSPITAL_COLOURS = ("#0077BB", "#E07020", "#CC3377", "#009988", "#7A6A00", "#8855CC")

HOSPITAL_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")

CLASS_COLOURS: Mapping[Label, str] = {
    "glioma": "#B93A4E",
    "meningioma": "#AD8A00",
    "pituitary": "#6554C0",
    "notumor": "#5F8FA3",
}

NEUTRAL = "#80868E"

GLOBAL = "#0B8793"
"""The global model, in the theme's own hue."""

GLOBAL_SYMBOL, NEUTRAL_SYMBOL = "star", "circle-open"

INK: Mapping[str, str] = {"light": "#56646A", "dark": "#B4C2C6"}
"""Words beside the axes, by theme: Streamlit's own grey is too pale to read."""


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


def ink_on(colour: str) -> Literal["black", "white"]:
    """What is legible on a fill of that colour: WCAG 2.2 asks for 4.5:1, and one of the two always has it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def layout(figure: go.Figure, *, x: str = "", y: str = "", height: int = 320, legend: bool = False) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28 if legend else 8, "b": 8},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": None},
        hoverlabel={"align": "left"},
        bargap=0.35,
    )
    figure.update_xaxes(title=x, automargin=True)
    figure.update_yaxes(title=y, automargin=True)
    return figure


def percents(fractions: Iterable[float | None]) -> list[float | None]:
    """For an axis that counts in percent, with a space before the sign as everywhere else."""
    return [None if fraction is None else 100 * fraction for fraction in fractions]


PERCENT_AXIS = {"ticksuffix": "\N{NO-BREAK SPACE}%"}

WHOLE_PERCENT_AXIS = {**PERCENT_AXIS, "range": [0, 104], "dtick": 20}


def matrix(
    cells: Sequence[Sequence[float | None]], columns: Sequence[str], rows: Sequence[str], **options: Any
) -> go.Figure:
    """A heat map with its first row on top, and labels that stay level on a phone."""
    figure = go.Figure(
        go.Heatmap(z=cells, x=columns, y=rows, showscale=False, xgap=2, ygap=2, hoverongaps=False, **options)
    )
    figure.update_xaxes(showgrid=False, tickangle=0, tickfont_size=11)
    figure.update_yaxes(showgrid=False, autorange="reversed", tickfont_size=11)
    return figure


def scores(found: Sequence[tuple[str, Metrics, str, str]], axis: str) -> go.Figure:
    """Accuracies with their intervals, one row each, from 0 to 100 %: (label, metrics, colour, symbol)."""
    figure = go.Figure([_score(*each) for each in found])
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(**WHOLE_PERCENT_AXIS)
    return layout(figure, x=axis, height=100 + 44 * len(found))


def _score(label: str, metrics: Metrics, colour: str, symbol: str) -> go.Scatter:
    accuracy, found = metrics.accuracy or 0.0, metrics.intervals.get("accuracy")
    bars = {"array": percents([found.high - accuracy]), "arrayminus": percents([accuracy - found.low])} if found else {}
    return go.Scatter(
        x=percents([accuracy]),
        y=[label],
        mode="markers",
        error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 6, **bars},
        marker={"color": colour, "symbol": symbol, "size": 13},
        hovertemplate=f"{label}<br>{percent(accuracy)}<br>{interval(found)}<br>{metrics.n:,} test scans<extra></extra>",
    )
