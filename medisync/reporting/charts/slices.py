"""The chart of a volume: the probability of each class from slice to slice."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

import plotly.graph_objects as go

from medisync.reporting.charts.theme import CLASS_COLOURS, CLASS_DASHES, NEUTRAL, WHOLE_PERCENT_AXIS, Chart, layout
from medisync.reporting.formatting import CLASS_NAMES, count, listed
from medisync.reporting.verdicts import VERDICTS
from medisync.schemas import LABELS, Label, Prediction

T = TypeVar("T")

SHOWN = "Dotted line: the slice shown."

MARKS: Mapping[str, tuple[str, str]] = {
    "No answer": ("Crosses", "x"),
    "Out of distribution": ("Crosses", "x"),
    "Answer with doubt": ("Triangles", "triangle-up"),
    "No prediction": ("Circles", "circle-open"),
}
"""Marks by their meaning: a word for them and plotly's symbol. Runs before verdicts mark what is out of distribution."""

MARKS_AT = -7
"""Height in percent of the marks below the lines."""

NO_PREDICTION, NO_ANSWER = "no prediction", "no answer"

Slices = Mapping[int, Prediction | str]
"""Predictions by slice number, from 1, in order; the reason where there is none."""


def along_slices(found: Slices, shown: int) -> Chart:
    """Returns the calibrated probabilities as a line per class, with gaps where there is no prediction.

    Marks below the lines say which slices have no answer, one with doubt, or no prediction; the slice `shown` is marked.
    """
    figure = go.Figure([_line(found, label) for label in LABELS])
    for name, (_, symbol) in MARKS.items():
        _mark(figure, [number for number, each in found.items() if _mark_of(each) == name], name, symbol)
    figure.add_vline(shown, line={"color": NEUTRAL, "width": 2, "dash": "dot"})
    layout(figure, x="Slice", y="Calibrated probability", height=320, legend=True)
    figure.update_xaxes(range=[min(found) - 0.5, max(found) + 0.5], showgrid=False)
    figure.update_yaxes(**WHOLE_PERCENT_AXIS | {"range": [MARKS_AT - 5, 104]})
    return Chart(_title(found), figure, _in_words(found, shown))


def key(found: Slices) -> str:
    """Returns what the marks mean, for the line below the chart: a phone has no room for them in the legend."""
    judged = any(isinstance(each, Prediction) and each.verdict for each in found.values())
    meant = ["No answer", "Answer with doubt"] if judged else ["Out of distribution"]
    return " ".join([SHOWN, *(f"{MARKS[name][0]}: {name.lower()}." for name in (*meant, "No prediction"))])


def _mark_of(found: Prediction | str) -> str:
    """Returns the name of a slice's mark; empty for none."""
    if isinstance(found, str):
        return "No prediction"
    if found.verdict is None:
        return "Out of distribution" if found.unlike_training else ""
    return "" if found.verdict == "answer" else VERDICTS[found.verdict]


def _line(found: Slices, label: Label) -> go.Scatter:
    name = CLASS_NAMES[label]
    values = [None if isinstance(each, str) else 100 * each.probabilities[label] for each in found.values()]
    return go.Scatter(
        name=name,
        x=list(found),
        y=values,
        mode="lines+markers",
        marker={"size": 4, "color": CLASS_COLOURS[label]},
        line={"color": CLASS_COLOURS[label], "dash": CLASS_DASHES[label], "width": 2},
        connectgaps=False,
        hovertemplate=f"slice %{{x}}<br>{name} %{{y:.1f}} %<extra></extra>",
    )


def _mark(figure: go.Figure, numbers: Sequence[int], name: str, symbol: str) -> None:
    if numbers:
        figure.add_scatter(
            name=name,
            showlegend=False,
            x=list(numbers),
            y=[MARKS_AT] * len(numbers),
            mode="markers",
            marker={"symbol": symbol, "size": 8, "color": NEUTRAL},
            hovertemplate=f"slice %{{x}}<br>{name}<extra></extra>",
        )


def _outcome(found: Prediction | str) -> str:
    if isinstance(found, str):
        return NO_PREDICTION
    return NO_ANSWER if found.verdict == "no answer" else CLASS_NAMES[found.label].lower()


def _title(found: Slices) -> str:
    """Returns how often each class is predicted, most often first."""
    outcomes = Counter(_outcome(each) for each in found.values())
    without = {"without an answer": outcomes.pop(NO_ANSWER, 0), "without prediction": outcomes.pop(NO_PREDICTION, 0)}
    parts = [(number, outcome) for outcome, number in outcomes.most_common()]
    parts += [(number, what) for what, number in without.items() if number]
    return f"Along {count(len(found), 'slice')}: {listed([f'{number} {what}' for number, what in parts])}"


def _in_words(found: Slices, shown: int) -> str:
    """Returns the most probable class of each stretch of slices, and which stretches are doubtful or out of distribution."""
    classes = [f"{outcome} on {where}" for outcome, where in _stretches(found, _outcome)]
    marked = [
        f" {name}: {listed(where)}."
        for name in ("Out of distribution", "Answer with doubt")
        if (where := [stretch for mark, stretch in _stretches(found, _mark_of) if mark == name])
    ]
    return f"Most probable class along the slices: {'; '.join(classes)}.{''.join(marked)} The slice shown: {shown}."


def _stretches(found: Slices, value: Callable[[Prediction | str], T]) -> list[tuple[T, str]]:
    """Returns each value that neighbouring slices share, with their numbers in words."""
    grouped = [(shared, list(numbers)) for shared, numbers in groupby(found, lambda number: value(found[number]))]
    return [(shared, _range(numbers[0], numbers[-1])) for shared, numbers in grouped]


def _range(first: int, last: int) -> str:
    return f"slice {first}" if first == last else f"slices {first} to {last}"
