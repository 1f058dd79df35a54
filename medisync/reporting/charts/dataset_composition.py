"""Charts of the hospitals' datasets: scans by class, scans found and used, slices that hospitals share."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from medisync.reporting.charts.theme import CLASS_COLOURS, NEUTRAL, Chart, ink_on, layout, matrix
from medisync.reporting.formatting import CLASS_NAMES, axis_label, count, number, plain
from medisync.schemas import LABELS, AuditRecord, DatasetStats, Label, Overlap


def class_bars(datasets: Mapping[str, DatasetStats]) -> Chart:
    """Returns all hospitals side by side, with one bar per class."""
    names = list(datasets)
    figure = go.Figure([_upright_bars(label, datasets) for label in LABELS])
    figure.update_layout(barmode="group", legend_traceorder="normal")
    figure.update_yaxes(tickformat=",")
    figure.update_xaxes(tickvals=names, ticktext=[axis_label(name, 22) for name in names])
    figure = layout(figure, y="Scans used", height=380, legend=True).update_layout(bargap=0.2)
    return Chart(_distribution_title(datasets), figure, _distribution_alt(datasets))


def _upright_bars(label: Label, datasets: Mapping[str, DatasetStats]) -> go.Bar:
    numbers = [stats.class_distribution.get(label, 0) for stats in datasets.values()]
    return go.Bar(
        name=CLASS_NAMES[label],
        x=list(datasets),
        y=numbers,
        marker_color=CLASS_COLOURS[label],
        text=[number(images) for images in numbers],
        textposition="outside",
        cliponaxis=False,
    )


def class_distribution(datasets: Mapping[str, DatasetStats]) -> Chart:
    """Returns one bar per hospital with one segment per class."""
    names = list(datasets)
    figure = go.Figure([_class_bars(label, datasets) for label in LABELS])
    figure.update_layout(barmode="stack", legend_traceorder="normal", uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(tickformat=",")
    figure.update_yaxes(autorange="reversed", tickvals=names, ticktext=[axis_label(name) for name in names])
    figure = layout(figure, x="Scans used", height=150 + 56 * len(names), legend=True)
    return Chart(_distribution_title(datasets), figure, _distribution_alt(datasets))


def _distribution_alt(datasets: Mapping[str, DatasetStats]) -> str:
    mixes = [f"{plain(name)}: {_mix(stats)}" for name, stats in datasets.items()]
    return f"Scans used, by hospital and class. {'; '.join(mixes)}."


def _class_bars(label: Label, datasets: Mapping[str, DatasetStats]) -> go.Bar:
    numbers = [stats.class_distribution.get(label, 0) for stats in datasets.values()]
    legible = 0.04 * max((stats.total for stats in datasets.values()), default=0)
    return go.Bar(
        name=CLASS_NAMES[label],
        orientation="h",
        x=numbers,
        y=list(datasets),
        marker_color=CLASS_COLOURS[label],
        text=[number(images) if images > legible else "" for images in numbers],
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
        return "Every hospital has scans of all four classes"
    return f"{incomplete} of {count(len(datasets), 'hospital')} {'lacks' if incomplete == 1 else 'lack'} a class"


def _mix(stats: DatasetStats) -> str:
    return ", ".join(
        f"{number(stats.class_distribution.get(label, 0))} {CLASS_NAMES[label].lower()}" for label in LABELS
    )


def found_and_used(stats: DatasetStats) -> Chart:
    """Returns one hospital's scans by class: those found beside those that the run used."""
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
            text=[number(numbers.get(label, 0)) for label in LABELS],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"%{{y}}<br>{title.lower()}: %{{x:,}} scans<extra></extra>",
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(autorange="reversed")
    most = max([*stats.found.values(), *stats.class_distribution.values()], default=1)
    figure.update_xaxes(tickformat=",", range=[0, 1.3 * max(1, most)])  # room for the numbers at the bars' ends
    found = sum(stats.found.values()) or stats.total
    return Chart(
        f"{number(stats.total)} of {count(found, 'scan')} found are used (grey: found, coloured: used)",
        layout(figure, x="Scans", height=330),
        f"Scans by class. Used: {_mix(stats)}. Found: {number(found)} in total.",
    )


def overlap(audit: AuditRecord) -> Chart:
    """Returns how many scans of the hospital in the row show a slice that the hospital in the column has too."""
    names = list(audit.hospitals)
    shared = {(pair.hospital, pair.other): pair.images for pair in audit.overlaps}
    cells = [[None if row == column else shared.get((row, column), 0) for column in names] for row in names]
    figure = matrix(
        cells,
        [axis_label(name, 9) for name in names],
        [axis_label(name, 9) for name in names],
        texttemplate="%{z:,}",
        hovertemplate="%{z:,} scans of %{y}<br>show slices that %{x} has too<extra></extra>",
    )
    found = [
        f"{count(pair.images, 'scan')} of {plain(pair.hospital)}: also at {plain(pair.other)}"
        for pair in audit.overlaps
    ]
    return Chart(
        _overlap_title(audit.overlaps),
        layout(figure, x="Also at", y="Scans of", height=360),
        "; ".join(found) or "No hospital has a slice that another one has.",
    )


def _overlap_title(overlaps: Sequence[Overlap]) -> str:
    if not overlaps:
        return "No two hospitals share a slice"
    most = max(overlaps, key=lambda pair: pair.images)
    return f"{count(most.images, 'scan')} of {plain(most.hospital)} show slices that {plain(most.other)} has too"
