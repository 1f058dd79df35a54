"""Charts of what a model answers and how often wrongly: the hospitals' test scans beside scans from outside."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from medisync.reporting.charts.performance import diagonal, reliability_points
from medisync.reporting.charts.theme import (
    ANSWER_COLOURS,
    GLOBAL,
    NEUTRAL,
    OUTSIDE_COLOURS,
    OUTSIDE_DASHES,
    WHOLE_PERCENT_AXIS,
    Chart,
    ink_on,
    layout,
    percents,
)
from medisync.reporting.formatting import axis_label, percent, plain
from medisync.reporting.outside import NONE_OF_THE_CLASSES, risk
from medisync.reporting.verdicts import NO_ANSWER, has_verdicts
from medisync.schemas import AnswerFigures, ExternalEvaluation, Metrics, SelectiveMetrics

HOSPITALS = "hospitals' test scans"

FLAGGED = list(ANSWER_COLOURS)[3]

LEGIBLE = 0.06
"""Fraction of a bar below which a segment is too narrow for its number."""

HATCH = {"shape": "/", "bgcolor": NEUTRAL, "fgcolor": "#B3B9BF", "solidity": 0.25}
"""Lines lighter than the bar, so that its number stays legible."""

MARKS: Mapping[str, tuple[Callable[[SelectiveMetrics], AnswerFigures | None], str]] = {
    "Threshold of answers without doubt": (lambda found: found.without_doubt, "diamond"),
    "Threshold of all answers": (lambda found: found.answered, "square"),
}
"""Marks on a risk-coverage curve: what is answered from a threshold on, and plotly's symbol."""

External = Mapping[str, ExternalEvaluation]
"""External datasets by name."""


@dataclass(frozen=True)
class _Line:
    name: str
    metrics: Metrics
    colour: str
    dash: str


def _lines(inside: Metrics, external: External) -> list[_Line]:
    """Returns the hospitals' scans, then each external dataset's scans of the four classes, with their looks."""
    outside = [(name, each.known) for name, each in external.items() if each.known and each.known.n]
    return [
        _Line(HOSPITALS, inside, GLOBAL, "solid"),
        *(
            _Line(
                plain(name, 40),
                known,
                OUTSIDE_COLOURS[i % len(OUTSIDE_COLOURS)],
                OUTSIDE_DASHES[i % len(OUTSIDE_DASHES)],
            )
            for i, (name, known) in enumerate(outside)
        ),
    ]


def risk_coverage(inside: Metrics, external: External) -> Chart:
    """Returns the risk-coverage curves: how many answers are wrong if only the most confident scans are answered.

    Each curve ends where every scan that is not flagged as out of distribution is answered. Marks show where the thresholds
    for an answer without doubt and for any answer lie. Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500.
    """
    known = [(line, line.metrics.selective) for line in _lines(inside, external) if line.metrics.selective]
    figure = go.Figure([_risk_curve(line, selective) for line, selective in known])
    figure.update_xaxes(**WHOLE_PERCENT_AXIS)
    figure.update_yaxes(ticksuffix="\N{NO-BREAK SPACE}%", rangemode="tozero")
    for name, (choose, symbol) in MARKS.items():
        _mark(figure, [(line, each) for line, selective in known if (each := choose(selective))], name, symbol)
    return Chart(
        _risk_title(known),
        layout(figure, x="Scans answered, most confident first", y="Wrong among the answers", height=420, legend=True),
        "Risk-coverage curves. " + "; ".join(_curve_in_words(line.name, selective) for line, selective in known),
    )


def _risk_title(known: Sequence[tuple[_Line, SelectiveMetrics]]) -> str:
    if not known:
        return "Risk and coverage"
    judged = [(line, each.answered) for line, each in known if each.answered]
    if judged:
        return f"Wrong among all answers: {'; '.join(f'{line.name} {percent(each.risk)}' for line, each in judged)}"
    ends = [f"{line.name} {percent(risk(selective))}" for line, selective in known]
    return f"Wrong if all scans that are not flagged are answered: {'; '.join(ends)}"


def _mark(figure: go.Figure, found: Sequence[tuple[_Line, AnswerFigures]], name: str, symbol: str) -> None:
    """Draws what a threshold leads to on each curve; a curve without answers has no mark."""
    shown = [(line, each) for line, each in found if each.risk is not None]
    if shown:
        figure.add_scatter(
            name=name,
            x=percents(each.coverage for _, each in shown),
            y=percents(each.risk for _, each in shown),
            customdata=[axis_label(line.name, 30) for line, _ in shown],
            mode="markers",
            marker={"symbol": symbol, "size": 14, "color": [line.colour for line, _ in shown], "line_width": 2},
            cliponaxis=False,
            hovertemplate="answered %{x:.1f} %<br>of these wrong %{y:.1f} %"
            f"<extra>%{{customdata}}<br>{name.lower()}</extra>",
        )


def _risk_curve(line: _Line, selective: SelectiveMetrics) -> go.Scatter:
    points = selective.points
    return go.Scatter(
        name=line.name,
        x=percents(point.coverage for point in points),
        y=percents(point.risk for point in points),
        customdata=percents(point.confidence for point in points),
        mode="lines+markers",
        marker={"size": [*([0] * (len(points) - 1)), 10], "color": line.colour},
        line={"color": line.colour, "dash": line.dash, "width": 2.5},
        cliponaxis=False,
        hovertemplate="answered %{x:.1f} %<br>of these wrong %{y:.1f} %<br>confidence from %{customdata:.1f} %"
        f"<extra>{axis_label(line.name, 30)}</extra>",
    )


def _curve_in_words(name: str, selective: SelectiveMetrics) -> str:
    chosen = [
        selective.points[i]
        for i in sorted({0, len(selective.points) // 2, len(selective.points) - 1})
        if selective.points
    ]
    said = [f"{percent(point.coverage)} answered, {percent(point.risk)} of these wrong" for point in chosen]
    said += [
        f"{mark.lower()}: {percent(each.coverage)} answered, {percent(each.risk)} of these wrong"
        for mark, (choose, _) in MARKS.items()
        if (each := choose(selective))
    ]
    return f"{name}: {', '.join(said) or 'no answers'}"


def reliability(inside: Metrics, external: External) -> Chart:
    """Returns the reliability diagrams of the hospitals' scans and of those from outside, in one plot."""
    lines = _lines(inside, external)
    figure = diagonal()
    for line in lines:
        shown = reliability_points([found for found in line.metrics.reliability if found.images], line.colour)
        figure.add_scatter(name=line.name, line_dash=line.dash, **shown)
    gaps = [f"{line.name} {percent(line.metrics.ece)}" for line in lines]
    return Chart(
        f"Mean gap between confidence and accuracy: {'; '.join(gaps)}",
        layout(figure, x="Confidence", y="Accuracy", height=420, legend=True),
        f"Reliability diagrams. Mean gaps between confidence and accuracy: {'; '.join(gaps)}.",
    )


def answers(inside: Metrics, external: External) -> Chart:
    """Returns what a user gets: of each set of scans, the fractions answered rightly, wrongly and not at all.

    In a run before verdicts, scans that are flagged as out of distribution count as not answered. An answer for a scan of none
    of the classes is always wrong.
    """
    sets = list(_answered_sets(inside, external))
    judged = has_verdicts(inside)
    names = {outcome: NO_ANSWER if judged and outcome == FLAGGED else outcome for outcome in ANSWER_COLOURS}
    figure = go.Figure([_segments(outcome, name, sets) for outcome, name in names.items()])
    figure.update_layout(barmode="stack", legend_traceorder="normal", uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(**WHOLE_PERCENT_AXIS)
    labels = [axis_label(name, 16) for name, _ in sets]
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(labels))), ticktext=labels)
    said = "; ".join(f"{name}: {_in_words(fractions, names)}" for name, fractions in sets)
    return Chart(_answers_title(sets), layout(figure, x="Scans", height=170 + 62 * len(sets), legend=True), f"{said}.")


Fractions = Mapping[str, float]
"""Fractions of a set of scans by the outcomes of ANSWER_COLOURS; they add up to 1."""


def _answered_sets(inside: Metrics, external: External) -> Iterable[tuple[str, Fractions]]:
    if inside.selective:
        yield HOSPITALS, _outcomes(inside.selective)
    for name, each in external.items():
        if each.known and each.known.selective:
            yield f"{plain(name, 18)}: the four classes", _outcomes(each.known.selective)
        if each.other_selective:
            yield f"{plain(name, 18)}: {NONE_OF_THE_CLASSES.lower()}", _outcomes(each.other_selective)


def _outcomes(selective: SelectiveMetrics) -> Fractions:
    answered, wrong, sure = _answered_and_wrong(selective)
    values = (max(0.0, answered - wrong), wrong - sure, sure, 1 - answered)
    return dict(zip(ANSWER_COLOURS, values, strict=True))


def _answered_and_wrong(selective: SelectiveMetrics) -> tuple[float, float, float]:
    """Returns the fractions of scans that are answered, wrongly answered, and wrongly answered with high confidence."""
    if selective.answered:
        wrong = selective.answered.coverage * (selective.answered.risk or 0.0)
        return selective.answered.coverage, wrong, min(wrong, selective.confidently_wrong)
    answered, sure = 1 - selective.flagged, selective.confidently_wrong
    return answered, max(sure, answered * (risk(selective) or 0.0)), sure


def _segments(outcome: str, name: str, sets: Sequence[tuple[str, Fractions]]) -> go.Bar:
    values, colour = [fractions[outcome] for _, fractions in sets], ANSWER_COLOURS[outcome]
    return go.Bar(
        name=name,
        orientation="h",
        x=percents(values),
        y=list(range(len(sets))),
        customdata=[name for name, _ in sets],
        marker={"color": colour, "pattern": HATCH if colour == NEUTRAL else {"shape": ""}},
        text=[percent(value) if value >= LEGIBLE else "" for value in values],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont_color=ink_on(colour),
        constraintext="inside",
        hovertemplate=f"%{{customdata}}<br>{name}: %{{x:.1f}} %<extra></extra>",
    )


def _in_words(fractions: Fractions, names: Mapping[str, str]) -> str:
    return ", ".join(f"{names[outcome].lower()} {percent(value)}" for outcome, value in fractions.items())


def _answers_title(sets: Sequence[tuple[str, Fractions]]) -> str:
    if not sets:
        return "What the model answers"
    sure = list(ANSWER_COLOURS)[2]
    name, worst = max(sets, key=lambda each: each[1][sure])
    return (
        f"Confidently wrong: up to {percent(worst[sure])} ({name})" if worst[sure] else "No scan is confidently wrong"
    )
