"""Common parts of all charts: palettes, layout, the heat map of a table and the plot of accuracies with intervals.

A hospital has one colour and one symbol everywhere, and a class has one colour everywhere. All have a contrast of at least
3:1 against the light and the dark background. The four classes and the first three hospitals can be told apart with any
colour vision deficiency; symbols, dashes, labels or order distinguish all of them without colour.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import plotly.graph_objects as go

from medisync.reporting.formatting import number, percent, with_interval
from medisync.schemas import Label, Metrics

HOSPITAL_COLOURS = ("#0077BB", "#E07020", "#CC3377", "#009988", "#7A6A00", "#8855CC")

HOSPITAL_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")

CLASS_COLOURS: Mapping[Label, str] = {
    "glioma": "#B93A4E",
    "meningioma": "#AD8A00",
    "pituitary": "#6554C0",
    "notumor": "#5F8FA3",
}

CLASS_DASHES: Mapping[Label, str] = {
    "glioma": "solid",
    "meningioma": "dash",
    "pituitary": "dashdot",
    "notumor": "longdash",
}

NEUTRAL = "#80868E"

GLOBAL = "#0B8793"
"""The global model, in the theme's own hue."""

OUTSIDE_COLOURS = ("#8855CC", "#B97A00", "#A84830")
"""External datasets, which stand beside the global model's figures at the hospitals and not beside single hospitals."""

OUTSIDE_DASHES = ("dash", "dashdot", "dot")

ANSWER_COLOURS: Mapping[str, str] = {
    "Right": GLOBAL,
    "Wrong": "#D87818",
    "Wrong, confidence over 90\N{NO-BREAK SPACE}%": "#C03048",
    "Flagged": NEUTRAL,
}
"""What a user gets for a scan: the right answer, a wrong one, or none, which is hatched too because grey resembles teal."""

GLOBAL_SYMBOL, NEUTRAL_SYMBOL = "star", "circle-open"

INK: Mapping[str, str] = {"light": "#56646A", "dark": "#B4C2C6"}
"""Colour of axis labels, by theme: Streamlit's own grey has too little contrast."""

SEQUENTIAL = [(0, "#F3F8F9"), (0.55, "#94C2C9"), (0.67, "#2B7F89"), (1, "#06454D")]
"""Colours of a heat map outside Streamlit, as in its light theme: hardly any are too dark for black and too light for white."""

TITLE_WIDTH = 95
"""Characters in a line of a title inside a figure of usual width."""


@dataclass(frozen=True)
class Chart:
    """A figure, the title that stands above it and its alternative text, both plain."""

    title: str
    figure: go.Figure
    alt: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        """Shows the chart as the result of a notebook's cell: interactive, and static where figures cannot be drawn."""
        from medisync.reporting.static_pictures import png  # starts a browser, which pages never need

        figure = self.titled()
        static = png(figure)
        bundle: dict[str, object] = {
            "application/vnd.plotly.v1+json": figure.to_plotly_json(),
            "text/plain": self.alt,
        }
        return bundle if static is None else {**bundle, "image/png": static}

    def titled(self) -> go.Figure:
        """Returns a copy of the figure on white with its title inside, for a notebook or an exported picture."""
        figure, lines = go.Figure(self.figure), textwrap.wrap(self.title, TITLE_WIDTH)
        room = 14 + 22 * len(lines)
        text = "<br>".join(escape(line) for line in lines)
        position = {
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 18 * len(lines) - 8, "l": 10},
        }
        figure.update_traces(colorscale=SEQUENTIAL, selector={"type": "heatmap"})
        return figure.update_layout(
            template="plotly_white",
            title={"text": text, "font_size": 16, **position},
            margin_t=(figure.layout.margin.t or 0) + room,
            height=(figure.layout.height or 320) + room,
        )


def hospital_colours(names: Iterable[str]) -> dict[str, str]:
    return {name: HOSPITAL_COLOURS[index % len(HOSPITAL_COLOURS)] for index, name in enumerate(names)}


def hospital_symbols(names: Iterable[str]) -> dict[str, str]:
    return {name: HOSPITAL_SYMBOLS[index % len(HOSPITAL_SYMBOLS)] for index, name in enumerate(names)}


def ink_on(colour: str) -> Literal["black", "white"]:
    """Returns the text colour with a contrast of at least 4.5:1 on that fill (WCAG 2.2); one of the two always has it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def layout(figure: go.Figure, *, x: str = "", y: str = "", height: int = 320, legend: bool = False) -> go.Figure:
    """Returns the figure with axis titles, narrow margins and, if asked, a legend above the plot."""
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
    """Returns the values for an axis in percent."""
    return [None if fraction is None else 100 * fraction for fraction in fractions]


PERCENT_AXIS = {"ticksuffix": "\N{NO-BREAK SPACE}%"}

WHOLE_PERCENT_AXIS = {**PERCENT_AXIS, "range": [0, 104], "dtick": 20, "tickangle": 0}


def matrix(
    cells: Sequence[Sequence[float | None]], columns: Sequence[str], rows: Sequence[str], **options: Any
) -> go.Figure:
    """Returns a heat map with the first row on top and labels that stay horizontal on a phone."""
    figure = go.Figure(
        go.Heatmap(z=cells, x=columns, y=rows, showscale=False, xgap=2, ygap=2, hoverongaps=False, **options)
    )
    figure.update_xaxes(showgrid=False, tickangle=0, tickfont_size=10)
    figure.update_yaxes(showgrid=False, autorange="reversed", tickfont_size=11)
    return figure


def scores(found: Sequence[tuple[str, Metrics, str, str]], axis: str) -> go.Figure:
    """Returns a forest plot: one accuracy with its 95 % interval per row, from 0 to 100 %.

    `found` holds (label, metrics, colour, symbol) per row.
    """
    figure = go.Figure([_score(*each) for each in found])
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(**WHOLE_PERCENT_AXIS)
    return layout(figure, x=axis, height=100 + 52 * len(found))


def _score(label: str, metrics: Metrics, colour: str, symbol: str) -> go.Scatter:
    accuracy, found = metrics.accuracy or 0.0, metrics.intervals.get("accuracy")
    bars = {"array": percents([found.high - accuracy]), "arrayminus": percents([accuracy - found.low])} if found else {}
    return go.Scatter(
        x=percents([accuracy]),
        y=[label],
        mode="markers+text",
        text=percent(metrics.accuracy),
        textposition="top center",
        textfont_size=11,
        cliponaxis=False,
        error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 6, **bars},
        marker={"color": colour, "symbol": symbol, "size": 13},
        hovertemplate=f"{label}<br>{with_interval(metrics, 'accuracy')}<br>{number(metrics.n)} test scans<extra></extra>",
    )
