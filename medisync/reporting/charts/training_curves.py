"""The history of a run -> its curves over the rounds; no streamlit, no torch."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

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
from medisync.reporting.formatting import percent, plain
from medisync.schemas import HistoryEntry


def losses(history: Sequence[HistoryEntry], best: int) -> Chart:
    """The global model's validation loss beside the mean training loss of the hospitals."""
    figure = _curves(
        history, {"Training, mean of hospitals": "train_loss", "Validation, global model": "val_loss"}, best
    )
    if (highest := _highest_settled_loss(history)) is not None:
        figure.update_yaxes(range=[0, 1.05 * highest])
    return Chart(
        _loss_title(history),
        layout(figure, x="Round", y="Cross-entropy loss", legend=True),
        _described("Loss", history, "val_loss"),
    )


def _highest_settled_loss(history: Sequence[HistoryEntry]) -> float | None:
    """Of many short rounds the first hundredth belongs to a network that knows nothing yet: its losses would press all others
    together, and may leave the chart.
    """
    settled = history[len(history) // 100 :] if len(history) > SINGLE_POINTS else []
    return max(
        (loss for entry in settled for loss in (entry.train_loss, entry.val_loss) if loss is not None), default=None
    )


def _loss_title(history: Sequence[HistoryEntry]) -> str:
    known = {entry.epoch: entry.val_loss for entry in history if entry.val_loss is not None}
    if not known:
        return "Loss per round"
    lowest = min(known, key=lambda epoch: known[epoch])
    return f"Validation loss was lowest in round {lowest}"


def accuracies(history: Sequence[HistoryEntry], best: int) -> Chart:
    names = {"Training, mean of hospitals": "train_accuracy", "Validation, global model": "val_accuracy"}
    figure = _curves(history, names, best, fraction=True)
    kept = {entry.epoch: entry.val_accuracy for entry in history}.get(best)
    return Chart(
        "Accuracy per round" if kept is None else f"Validation accuracy is {percent(kept)} in the kept round",
        layout(figure, x="Round", y="Accuracy", legend=True),
        _described("Accuracy", history, "val_accuracy"),
    )


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
    """Validation takes place every so many rounds: those without it are no gap in its curve."""
    return [entry for entry in history if not field.startswith("val_") or getattr(entry, field) is not None]


SINGLE_POINTS = 60
"""More rounds than these are drawn as a line alone."""


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
    """Whole rounds on the x axis, with the kept one marked."""
    figure.update_xaxes(dtick=max(1, math.ceil(len(history) / 10)), range=[0.5, max(len(history), 1) + 0.5])
    if fraction:
        figure.update_yaxes(**PERCENT_AXIS)
    if any(entry.epoch == best for entry in history):
        figure.add_vline(
            best,
            line={"color": NEUTRAL, "width": 1, "dash": "dash"},
            annotation={
                "text": "kept",
                "font_color": NEUTRAL,
                "yref": "paper",
                "y": 0,
                "yanchor": "bottom",
                "xanchor": "right" if best > len(history) / 2 else "left",
            },
        )
    return figure


def _described(what: str, history: Sequence[HistoryEntry], field: str) -> str:
    known = [(entry.epoch, getattr(entry, field)) for entry in history if getattr(entry, field) is not None]
    if not known:
        return f"{what} per round: no validation figure."
    (first, start), (last, end) = known[0], known[-1]
    return f"{what} per round. Validation: {start:.3f} in round {first}, {end:.3f} in round {last}."


def hospital_losses(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    return _by_hospital(
        history, "val_loss", best, names, "Validation loss of the global model at each hospital", "Cross-entropy loss"
    )


def hospital_accuracies(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    title = _accuracy_title(history, best)
    return _by_hospital(history, "val_accuracy", best, names, title, "Accuracy", fraction=True)


def _accuracy_title(history: Sequence[HistoryEntry], best: int) -> str:
    """Says how unequal the hospitals are served by the round that was kept."""
    kept = next((entry.hospitals for entry in history if entry.epoch == best), {})
    known = {name: scores.val_accuracy for name, scores in kept.items() if scores.val_accuracy is not None}
    if len(known) < 2:
        return "Validation accuracy of the global model at each hospital"
    low, high = (choose(known, key=lambda name: known[name]) for choose in (min, max))
    return (
        f"In the kept round, validation accuracy is {percent(known[low])} at {plain(low, 40)} and "
        f"{percent(known[high])} at {plain(high, 40)}"
    )


def update_sizes(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    title = "How far each hospital moved the weights"
    return _by_hospital(history, "update_norm", best, names, title, "Update size (L2 norm)")


def drifts(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart | None:
    """How far apart the hospitals pull; None for a run that did not measure it."""
    if all(scores.drift is None for entry in history for scores in entry.hospitals.values()):
        return None
    title = "How far each hospital ended from what they became together"
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
    spoken = [f"{name} {_ends(history, name, field)}" for name in names]
    return Chart(title, layout(figure, x="Round", y=axis, legend=True), f"{axis} per round. {'; '.join(spoken)}.")


def _ends(history: Sequence[HistoryEntry], name: str, field: str) -> str:
    values = [getattr(entry.hospitals[name], field) for entry in history if name in entry.hospitals]
    known = [value for value in values if value is not None]
    return f"from {known[0]:.3f} to {known[-1]:.3f}" if known else "without figures"


def _hospital_curves(
    history: Sequence[HistoryEntry], field: str, best: int, names: Sequence[str], *, fraction: bool = False
) -> go.Figure:
    """One line per hospital; a round in which a hospital has no figure is a gap."""
    figure, colours, symbols = go.Figure(), hospital_colours(names), hospital_symbols(names)
    shown = _measured(history, field)
    for name in names:
        values = [getattr(entry.hospitals.get(name), field, None) for entry in shown]
        figure.add_scatter(**_line(name, [entry.epoch for entry in shown], values, fraction))
        figure.data[-1].update(line_color=colours[name], marker={"symbol": symbols[name], "size": 7})
    return _round_axis(figure, history, best, fraction)
