"""The history of a run -> its curves over the rounds; no streamlit, no torch."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from medisync.dashboard.charts import GLOBAL, NEUTRAL, Chart, hospital_colours, hospital_symbols, layout
from medisync.dashboard.words import percent, plain
from medisync.records import HistoryEntry


def losses(history: Sequence[HistoryEntry], best: int) -> Chart:
    """The global model's validation loss beside the mean training loss of the hospitals."""
    figure = _curves(
        history, {"Training, mean of hospitals": "train_loss", "Validation, global model": "val_loss"}, best
    )
    return Chart(
        f"Validation loss was lowest in round {best}" if _is_lowest(history, best) else "Loss per round",
        layout(figure, x="Round", y="Cross-entropy loss"),
        _described("Loss", history, "val_loss"),
    )


def _is_lowest(history: Sequence[HistoryEntry], best: int) -> bool:
    known = {entry.epoch: entry.val_loss for entry in history if entry.val_loss is not None}
    return bool(known) and known.get(best) == min(known.values())


def accuracies(history: Sequence[HistoryEntry], best: int) -> Chart:
    names = {"Training, mean of hospitals": "train_accuracy", "Validation, global model": "val_accuracy"}
    figure = _curves(history, names, best, fraction=True)
    kept = {entry.epoch: entry.val_accuracy for entry in history}.get(best)
    return Chart(
        "Accuracy per round" if kept is None else f"Validation accuracy is {percent(kept)} in the kept round",
        layout(figure, x="Round", y="Accuracy"),
        _described("Accuracy", history, "val_accuracy"),
    )


def _curves(
    history: Sequence[HistoryEntry], fields: Mapping[str, str], best: int, *, fraction: bool = False
) -> go.Figure:
    figure = go.Figure()
    for (name, field), colour, dash in zip(fields.items(), (NEUTRAL, GLOBAL), ("dot", "solid"), strict=True):
        values = [getattr(entry, field) for entry in history]
        figure.add_scatter(**_line(name, [entry.epoch for entry in history], values, fraction), line_color=colour)
        figure.data[-1].line.dash = dash
    return _round_axis(figure, history, best, fraction)


def _line(name: str, rounds: Sequence[int], values: Sequence[float | None], fraction: bool) -> dict[str, object]:
    shown = "%{y:.1%}" if fraction else "%{y:.3f}"
    hover = f"{escape(plain(name))}<br>round %{{x}}: {shown}<extra></extra>"
    return {
        "name": escape(plain(name, 40)),
        "x": list(rounds),
        "y": list(values),
        "mode": "lines+markers",
        "hovertemplate": hover,
        "connectgaps": False,
    }


def _round_axis(figure: go.Figure, history: Sequence[HistoryEntry], best: int, fraction: bool) -> go.Figure:
    """Whole rounds on the x axis, with the kept one marked."""
    figure.update_xaxes(dtick=max(1, math.ceil(len(history) / 10)), range=[0.5, max(len(history), 1) + 0.5])
    if fraction:
        figure.update_yaxes(tickformat=".0%")
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
                "xshift": 3,
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
    figure = _hospital_curves(history, "val_loss", best, names)
    return Chart(
        "The global model's validation loss, hospital by hospital",
        layout(figure, x="Round", y="Cross-entropy loss"),
        f"Validation loss per round for {', '.join(names)}.",
    )


def hospital_accuracies(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    figure = _hospital_curves(history, "val_accuracy", best, names, fraction=True)
    return Chart(
        "The global model's validation accuracy, hospital by hospital",
        layout(figure, x="Round", y="Accuracy"),
        f"Validation accuracy per round for {', '.join(names)}.",
    )


def update_sizes(history: Sequence[HistoryEntry], best: int, names: Sequence[str]) -> Chart:
    figure = _hospital_curves(history, "update_norm", best, names)
    return Chart(
        "How far each hospital moved the weights",
        layout(figure, x="Round", y="Update size (L2 norm)"),
        f"Size of the update per round for {', '.join(names)}.",
    )


def _hospital_curves(
    history: Sequence[HistoryEntry], field: str, best: int, names: Sequence[str], *, fraction: bool = False
) -> go.Figure:
    """One line per hospital; a round in which a hospital has no figure is a gap."""
    figure, colours, symbols = go.Figure(), hospital_colours(names), hospital_symbols(names)
    for name in names:
        values = [getattr(entry.hospitals.get(name), field, None) for entry in history]
        figure.add_scatter(**_line(name, [entry.epoch for entry in history], values, fraction))
        figure.data[-1].update(line_color=colours[name], marker={"symbol": symbols[name], "size": 8})
    return _round_axis(figure, history, best, fraction)
