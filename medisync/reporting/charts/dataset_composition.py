"""What hospitals have -> charts: scans by class, what was found and used, what several have; no streamlit, no torch."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from medisync.reporting.charts.theme import CLASS_COLOURS, NEUTRAL, Chart, ink_on, layout, matrix
from medisync.reporting.formatting import CLASS_NAMES, axis_label, count, escape
from medisync.schemas import LABELS, AuditRecord, DatasetStats, Label, Overlap


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
        layout(figure, x="Scans used", height=150 + 56 * len(names), legend=True),
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
        textfont_color=ink_on(CLASS_COLOURS[label]),
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
    figure.update_layout(barmode="group")
    figure.update_yaxes(autorange="reversed")
    most = max([*stats.found.values(), *stats.class_distribution.values()], default=1)
    figure.update_xaxes(tickformat=",", range=[0, 1.2 * max(1, most)])  # room for the numbers at the bars' ends
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
    figure = matrix(
        cells,
        [axis_label(name, 9) for name in names],
        [axis_label(name, 9) for name in names],
        texttemplate="%{z:,}",
        hovertemplate="%{z:,} scans of %{y}<br>show a slice that %{x} has too<extra></extra>",
    )
    found = [f"{pair.images} scans of {pair.hospital} are in {pair.other} too" for pair in audit.overlaps]
    return Chart(
        _overlap_title(audit.overlaps),
        layout(figure, x="… is in this hospital too", y="A scan of this hospital …", height=360),
        "; ".join(found) or "No hospital has a scan that another one has.",
    )


def _overlap_title(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "No two hospitals share a scan"
    most = max(overlaps, key=lambda pair: pair.images)
    return f"{count(most.images, 'scan')} of {escape(most.hospital)} show slices that {escape(most.other)} has too"
