"""Curves over the rounds of a run, from its history."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from medisync.reporting.charts.theme import (
    GLOBAL,
    NEUTRAL,
    PERCENT_AXIS,
    Chart,
    hospital_colours,
    hospital_symbols,
    layout,
    percents,
)
from medisync.reporting.formatting import decimal, percent, plain
from medisync.schemas import HistoryEntry


def losses(history: Sequence[HistoryEntry], best: int) -> Chart:
    """Returns the global model's validation loss and the hospitals' mean training loss."""
    figure = _curves(
        history, {"Training, mean of hospitals": "train_loss", "Validation, global model": "val_loss"}, best
    )
    _fit_to_settled(figure, [(entry.train_loss, entry.val_loss) for entry in history])
    return Chart(
        _loss_title(history),
        layout(figure, x="Round", y="Cross-entropy loss", legend=True),
        _in_words("Loss", history, "val_loss"),
    )


def _fit_to_settled(figure: go.Figure, values: Sequence[Sequence[float | None]]) -> None:
    """Fits the y axis to the values after the first hundredth of many rounds; `values` holds those of each round.

    At first the network is untrained: its losses and updates would compress the rest of the curve, and may leave the chart.
    """
    settled = values[len(values) // 100 :] if len(values) > SINGLE_POINTS else []
    known = [value for each in settled for value in each if value is not None]
    if known:
        figure.update_yaxes(range=[0, 1.05 * max(known)])


def _loss_title(history: Sequence[HistoryEntry]) -> str:
    known = {entry.epoch: entry.val_loss for entry in history if entry.val_loss is not None}
    if not known:
        return "Loss by round"
    lowest = min(known, key=lambda epoch: known[epoch])
    return f"Validation loss was lowest in round {lowest}"


def accuracies(history: Sequence[HistoryEntry], best: int) -> Chart:
    """Returns the global model's validation accuracy and the hospitals' mean training accuracy."""
    names = {"Training, mean of hospitals": "train_accuracy", "Validation, global model": "val_accuracy"}
    figure = _curves(history, names, best, fraction=True)
    selected = {entry.epoch: entry.val_accuracy for entry in history}.get(best)
    return Chart(
        "Accuracy by round" if selected is None else f"Validation accuracy in the selected round: {percent(selected)}",
        layout(figure, x="Round", y="Accuracy", legend=True),
        _in_words("Accuracy", history, "val_accuracy"),
    )


def loss_and_accuracy(history: Sequence[HistoryEntry], best: int) -> Chart:
    """Returns both as one figure with two panels, for a notebook."""
    panels = {"Cross-entropy loss": losses(history, best), "Accuracy": accuracies(history, best)}
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(panels), horizontal_spacing=0.08)
    for column, chart in enumerate(panels.values(), start=1):
        for line in chart.figure.data:
            figure.add_trace(line.update(showlegend=column == 1), row=1, col=column)
        axes = chart.figure.layout
        figure.update_yaxes(axes.yaxis.to_plotly_json() | {"title": None}, row=1, col=column)
        figure.update_xaxes(axes.xaxis.to_plotly_json(), row=1, col=column)
        _mark_selected(figure, history, best, row=1, col=column)
    layout(figure, x="Round", height=360, legend=True).update_layout(margin_t=64, legend_y=1.12)
    figure.update_annotations(font_size=13)
    return Chart(panels["Accuracy"].title, figure, " ".join(chart.alt for chart in panels.values()))


def _curves(
    history: Sequence[HistoryEntry], fields: Mapping[str, str], best: int, *, fraction: bool = False
) -> go.Figure:
    figure = go.Figure()
    for (name, field), colour, dash in zip(fields.items(), (NEUTRAL, GLOBAL), ("dot", "solid"), strict=True):
        shown = _measured(history, field)
        values = [getattr(entry, field) for entry in shown]
        figure.add_scatter(**_line(name, [entry.epoch for entry in shown], values, fraction), line_color=colour)
        figure.data[-1].line.dash = dash
    return _round_axis(figure, history, best, fraction)


def _measured(history: Sequence[HistoryEntry], field: str) -> list[HistoryEntry]:
    """Returns the rounds to draw: validation takes place every few rounds, and rounds without it are not gaps in its curve."""
    return [entry for entry in history if not field.startswith("val_") or getattr(entry, field) is not None]


SINGLE_POINTS = 60
"""The largest number of rounds that are drawn as points on the line."""


def _line(name: str, rounds: Sequence[int], values: Sequence[float | None], fraction: bool) -> dict[str, object]:
    shown = "%{y:.1f} %" if fraction else "%{y:.3f}"
    hover = f"{escape(plain(name))}<br>round %{{x}}: {shown}<extra></extra>"
    return {
        "name": escape(plain(name, 40)),
        "x": list(rounds),
        "y": percents(values) if fraction else list(values),
        "mode": "lines+markers" if len(rounds) <= SINGLE_POINTS else "lines",
        "hovertemplate": hover,
        "connectgaps": False,
    }


def _round_axis(figure: go.Figure, history: Sequence[HistoryEntry], best: int, fraction: bool) -> go.Figure:
    """Returns the figure with whole rounds on the x axis and the selected round marked."""
    figure.update_xaxes(dtick=max(1, math.ceil(len(history) / 10)), range=[0.5, max(len(history), 1) + 0.5])
    if fraction:
        figure.update_yaxes(**PERCENT_AXIS)
    _mark_selected(figure, history, best)
    return figure


def _mark_selected(figure: go.Figure, history: Sequence[HistoryEntry], best: int, **panel: int) -> None:
    if any(entry.epoch == best for entry in history):
        figure.add_vline(
            best,
            line={"color": NEUTRAL, "width": 1, "dash": "dash"},
            annotation={
                "text": "selected",
                "font_color": NEUTRAL,
                "y": 0,
                "yanchor": "bottom",
                "xanchor": "right" if best > len(history) / 2 else "left",
            },
            **panel,
        )


def _in_words(what: str, history: Sequence[HistoryEntry], field: str) -> str:
    known = [(entry.epoch, getattr(entry, field)) for entry in history if getattr(entry, field) is not None]
    if not known:
        return f"{what} by round. No validation figures."
    (first, start), (last, end) = known[0], known[-1]
    return f"{what} by round. Validation: {decimal(start)} in round {first}, {decimal(end)} in round {last}."


def hospital_losses(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    """Returns the global model's validation loss at each hospital."""
    title = "Validation loss of the global model at each hospital"
    return _by_hospital(history, "val_loss", best, names, title, "Cross-entropy loss")


def hospital_accuracies(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    """Returns the global model's validation accuracy at each hospital."""
    title = _accuracy_title(history, best)
    return _by_hospital(history, "val_accuracy", best, names, title, "Accuracy", fraction=True)


def _accuracy_title(history: Sequence[HistoryEntry], best: int) -> str:
    """Returns the range between the hospitals in the selected round."""
    selected = next((entry.hospitals for entry in history if entry.epoch == best), {})
    known = {name: scores.val_accuracy for name, scores in selected.items() if scores.val_accuracy is not None}
    if len(known) < 2:
        return "Validation accuracy of the global model at each hospital"
    low, high = (choose(known, key=lambda name: known[name]) for choose in (min, max))
    return (
        f"Validation accuracy in the selected round: from {percent(known[low])} at {plain(low, 40)} to "
        f"{percent(known[high])} at {plain(high, 40)}"
    )


def update_sizes(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    """Returns the L2 norm of each hospital's update."""
    title = "Update size: distance from the received to the returned weights"
    return _by_hospital(history, "update_norm", best, names, title, "Update size (L2 norm)")


def drifts(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart | None:
    """Returns each hospital's client drift; None for a run that did not measure it."""
    if all(scores.drift is None for entry in history for scores in entry.hospitals.values()):
        return None
    title = "Client drift: distance from the hospital's update to the aggregate"
    return _by_hospital(history, "drift", best, names, title, "Client drift (L2 distance)")


def _by_hospital(
    history: Sequence[HistoryEntry],
    field: str,
    best: int,
    names: Sequence[str],
    title: str,
    axis: str,
    *,
    fraction: bool = False,
) -> Chart:
    figure = _hospital_curves(history, field, best, names, fraction=fraction)
    if not fraction:
        _fit_to_settled(figure, [[getattr(each, field) for each in entry.hospitals.values()] for entry in history])
    spoken = [f"{plain(name)} {_ends(history, name, field)}" for name in names]
    return Chart(title, layout(figure, x="Round", y=axis, legend=True), f"{axis} by round. {'; '.join(spoken)}.")


def _ends(history: Sequence[HistoryEntry], name: str, field: str) -> str:
    values = [getattr(entry.hospitals[name], field) for entry in history if name in entry.hospitals]
    known = [value for value in values if value is not None]
    return f"from {decimal(known[0])} to {decimal(known[-1])}" if known else "without figures"


def _hospital_curves(
    history: Sequence[HistoryEntry], field: str, best: int, names: Sequence[str], *, fraction: bool = False
) -> go.Figure:
    """Returns one line per hospital; a round without a figure of the hospital is a gap."""
    figure, colours, symbols = go.Figure(), hospital_colours(names), hospital_symbols(names)
    shown = _measured(history, field)
    for name in names:
        values = [getattr(entry.hospitals.get(name), field, None) for entry in shown]
        figure.add_scatter(**_line(name, [entry.epoch for entry in shown], values, fraction))
        figure.data[-1].update(line_color=colours[name], marker={"symbol": symbols[name], "size": 7})
    return _round_axis(figure, history, best, fraction)
