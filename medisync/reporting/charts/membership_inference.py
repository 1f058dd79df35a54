"""Chart of how well training scans can be told from others, beside chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from medisync.reporting.charts.theme import GLOBAL, NEUTRAL, OUTSIDE_COLOURS, Chart, layout
from medisync.reporting.formatting import area, axis_label, decimal, scope_name
from medisync.reporting.membership import CHANCE, scopes, strongest
from medisync.schemas import AttackLevel, MembershipAttack, MembershipRecord

CHANCE_LABEL = {"text": "chance", "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "right", "xshift": -4}


@dataclass(frozen=True)
class _Look:
    name: str
    colour: str
    symbol: str
    offset: float
    """Distance from the middle of the row, of which 1 is the height."""
    text: str
    """Place of the figure beside its point."""


_LOOKS: Mapping[AttackLevel, _Look] = {
    "image": _Look("single scans", GLOBAL, "circle", -0.13, "top center"),
    "group": _Look("groups of scans", OUTSIDE_COLOURS[0], "diamond", 0.13, "bottom center"),
}


def areas(record: MembershipRecord) -> Chart:
    """Returns a forest plot of the strongest attack's area under the ROC curve, by hospital and level, with the chance line."""
    rows = scopes(record)
    found = {level: [strongest(record, level, scope) for scope in rows] for level in _LOOKS}
    figure = go.Figure([_points(level, each) for level, each in found.items()])
    figure.add_vline(x=0.5, line={"color": NEUTRAL, "dash": "dash"}, annotation=CHANCE_LABEL)
    names = [axis_label(scope_name(scope)) for scope in rows]
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.6], zeroline=False)
    figure.update_xaxes(range=_range(record), tickformat=".2f")
    group = strongest(record, "group")
    title = (
        f"Training scans told from others: AUC {area(group.auc, group.interval)} by group" if group else "Membership"
    )
    said = "; ".join(_in_words(level, rows, each) for level, each in found.items())
    return Chart(
        f"{title}; {CHANCE}",
        layout(figure, x="AUC of the strongest attack (95 % interval)", height=130 + 62 * len(rows), legend=True),
        f"Membership inference, area under the ROC curve of the strongest attack. {said}. {CHANCE}.",
    )


def _points(level: AttackLevel, found: Sequence[MembershipAttack | None]) -> go.Scatter:
    look = _LOOKS[level]
    known = [(place, each) for place, each in enumerate(found) if each]
    bars = {
        "array": [each.interval.high - each.auc if each.interval else 0 for _, each in known],
        "arrayminus": [each.auc - each.interval.low if each.interval else 0 for _, each in known],
    }
    return go.Scatter(
        name=look.name,
        x=[each.auc for _, each in known],
        y=[place + look.offset for place, _ in known],
        mode="markers+text",
        text=[decimal(each.auc) for _, each in known],
        textposition=look.text,
        textfont_size=11,
        cliponaxis=False,
        error_x={"type": "data", "symmetric": False, "color": look.colour, "thickness": 2, "width": 6, **bars},
        marker={"color": look.colour, "symbol": look.symbol, "size": 12},
        customdata=[area(each.auc, each.interval) for _, each in known],
        hovertemplate=f"{look.name}<br>%{{customdata}}<extra></extra>",
    )


def _range(record: MembershipRecord) -> tuple[float, float]:
    """Returns the ends of the axis: chance and every interval are on it, and small differences do not look large."""
    ends = [end for each in record.attacks if each.interval for end in (each.interval.low, each.interval.high)]
    shown = [0.38, 0.72, *ends, *(each.auc for each in record.attacks)]
    return min(shown) - 0.02, max(shown) + 0.02


def _in_words(level: AttackLevel, rows: Sequence[str | None], found: Sequence[MembershipAttack | None]) -> str:
    figures = [
        f"{scope_name(scope)} {area(each.auc, each.interval)}" for scope, each in zip(rows, found, strict=True) if each
    ]
    return f"By {_LOOKS[level].name}: {', '.join(figures) or 'not attacked'}"
