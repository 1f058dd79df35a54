"""What a run sent, against what it gained, and how long that takes on a hospital's line."""

from collections.abc import Sequence
from itertools import accumulate

import plotly.graph_objects as go

from medisync.reporting.charts.theme import GLOBAL, PERCENT_AXIS, Chart, layout, percents
from medisync.reporting.formatting import megabytes, percent
from medisync.schemas import HistoryEntry

LINE_SPEEDS = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Megabits a second, each way, of lines that hospitals have."""


def accuracy_by_traffic(history: Sequence[HistoryEntry]) -> Chart | None:
    """Returns the validation accuracy against the bytes to and from the hospital with most; None where none were counted."""
    sent = list(accumulate(map(_most_bytes, history)))
    if not sent or not sent[-1]:
        return None
    points = [(size, entry) for size, entry in zip(sent, history, strict=True) if entry.val_accuracy is not None]
    figure = go.Figure().add_scatter(
        x=[size / 1e9 for size, _ in points],
        y=percents([entry.val_accuracy for _, entry in points]),
        customdata=[entry.epoch for _, entry in points],
        mode="lines+markers",
        line_color=GLOBAL,
        hovertemplate="round %{customdata}: %{x:.2f} GB, %{y:.1f} %<extra></extra>",
    )
    figure.update_xaxes(rangemode="tozero").update_yaxes(**PERCENT_AXIS)
    title = f"Traffic of one hospital: {megabytes(sent[-1])} to and from it"
    best = max((entry.val_accuracy or 0 for _, entry in points), default=0)
    described = f"Validation accuracy against traffic: {percent(best)} at best, after {megabytes(sent[-1])} in all."
    return Chart(title, layout(figure, x="GB to and from a hospital", y="Validation accuracy"), described)


def line_seconds(history: Sequence[HistoryEntry], megabits: float) -> float:
    """Returns the seconds that the bytes of all rounds take on lines of so many megabits a second, each way.

    A round waits for the hospital with most traffic, whose weights come before its update goes.
    """
    return 8 * sum(map(_most_bytes, history)) / (megabits * 1e6)


def _most_bytes(entry: HistoryEntry) -> int:
    """Returns the bytes to and from the hospital with most of them in a round."""
    return max((scores.bytes_down + scores.bytes_up for scores in entry.hospitals.values()), default=0)
