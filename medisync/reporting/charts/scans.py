"""Figures of scans: a grid of them, and one prediction with its heat map. Readable as static pictures on white."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from medisync.imaging.decoding import decode, file_bytes
from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import pad_to_square
from medisync.reporting import verdicts
from medisync.reporting.charts.theme import CLASS_COLOURS, Chart, layout, percents
from medisync.reporting.formatting import CLASS_NAMES, RESEARCH_ONLY, axis_label, percent, plain
from medisync.reporting.pictures import data_address, overlay
from medisync.schemas import LABELS, AuditRecord, HospitalSplit, Label, Prediction, SplitRecord

CELL = 190
"""Height of a scan of a grid in the figure, in pixels, without its caption."""

Captioned = tuple[NDArray[np.uint8] | None, str]
"""A scan uint8 [H, W] with its caption; None leaves the cell empty."""


def grid(scans: Sequence[Captioned], columns: int, title: str) -> Chart:
    """Returns scans row by row in a grid with this many columns, each with its caption above it."""
    rows = -(-len(scans) // columns)
    captions = [axis_label(caption, 26) for _, caption in scans]
    figure = make_subplots(
        rows, columns, subplot_titles=captions, horizontal_spacing=0.02, vertical_spacing=min(0.16, 0.3 / rows)
    )
    for index, (pixels, _) in enumerate(scans):
        if pixels is not None:
            _add_picture(figure, pad_to_square(pixels), index // columns + 1, index % columns + 1)
    figure.update_annotations(font_size=12)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    layout(figure, height=rows * (CELL + 46)).update_layout(margin_t=44, plot_bgcolor="white", paper_bgcolor="white")
    shown = [plain(caption) for pixels, caption in scans if pixels is not None]
    return Chart(title, figure, f"{title}: {'; '.join(shown)}.")


def _add_picture(figure: go.Figure, pixels: NDArray[np.uint8], row: int, column: int) -> None:
    figure.add_trace(go.Image(source=data_address(pixels), hoverinfo="skip"), row=row, col=column)


def sample_scans(split: SplitRecord, dataset: Path) -> Chart:
    """Returns the first training scan of each class (columns) at each hospital (rows); a class without scans stays empty."""
    scans = [
        _first_of(label, name, hospital, dataset) for name, hospital in split.hospitals.items() for label in LABELS
    ]
    return grid(scans, len(LABELS), "One training scan of each class at each hospital")


def _first_of(label: Label, name: str, hospital: HospitalSplit, dataset: Path) -> Captioned:
    paths = [image.path for image in hospital.train if image.label == label]
    caption = f"{name}: {CLASS_NAMES[label].lower()}"
    return (_read(dataset / paths[0]), caption) if paths else (None, f"{caption}: none")


def _read(file: Path) -> Pixels:
    return decode(file_bytes(file)).pixels


def duplicate_pair(audit: AuditRecord, dataset: Path) -> Chart:
    """Returns two files that show the same slice side by side, the first example of the audit; a mirrored copy is turned
    back.
    """
    if not audit.examples:
        return grid([(None, "no near-duplicates were found")], 2, "The same slice twice")
    pair = audit.examples[0]
    second = _read(dataset / pair.second)
    copies = [(_read(dataset / pair.first), pair.first), (second[:, ::-1] if pair.mirrored else second, pair.second)]
    found = f"correlation {pair.correlation:.3f}{', one mirrored and shown turned back' if pair.mirrored else ''}"
    return grid(copies, 2, f"The same slice twice: {found}")


def prediction(pixels: NDArray[np.uint8], heat: NDArray[np.floating], found: Prediction, true_class: str = "") -> Chart:
    """Returns one prediction: the scan uint8 [S, S], the scan under its heat map [S, S] in [0, 1], and the probabilities.

    `true_class` is the scan's class where it is known; the title says then whether the prediction is right.
    """
    to = "" if found.verdict == "no answer" else f" to {CLASS_NAMES[found.label].lower()}"
    names = ["Scan", f"Warmer: contributed more{to}", "Calibrated probability"]
    figure = make_subplots(1, 3, subplot_titles=names, column_widths=[0.31, 0.31, 0.38], horizontal_spacing=0.03)
    _add_picture(figure, pixels, 1, 1)
    _add_picture(figure, overlay(pixels, heat, 0.6), 1, 2)
    figure.add_trace(_probability_bars(found), row=1, col=3)
    figure.update_annotations(font_size=12)
    layout(figure, height=340).update_layout(margin_t=44, plot_bgcolor="white", paper_bgcolor="white", bargap=0.45)
    for column in (1, 2):
        figure.update_xaxes(visible=False, row=1, col=column).update_yaxes(visible=False, row=1, col=column)
    figure.update_yaxes(autorange="reversed", visible=False, row=1, col=3)
    figure.update_xaxes(range=[0, 215], visible=False, row=1, col=3)  # room for the names at the bars' ends
    title = _prediction_title(found, true_class)
    return Chart(title, figure, f"{title} The scan, the scan with its heat map, and the probability of each class.")


def _prediction_title(found: Prediction, true_class: str) -> str:
    truth = f"; true class: {plain(true_class).lower()}" if true_class else ""
    flagged = " Out of distribution: do not rely on it." if found.verdict is None and found.unlike_training else ""
    return f"{verdicts.in_short(found)}{truth}.{flagged} {RESEARCH_ONLY}"


def _probability_bars(found: Prediction) -> go.Bar:
    values = [found.probabilities.get(label, 0.0) for label in LABELS]
    return go.Bar(
        orientation="h",
        x=percents(values),
        y=[CLASS_NAMES[label] for label in LABELS],
        text=[f"{CLASS_NAMES[label]} {percent(value)}" for label, value in zip(LABELS, values, strict=True)],
        textposition="outside",
        cliponaxis=False,
        marker_color=[CLASS_COLOURS[label] for label in LABELS],
        hoverinfo="skip",
    )
