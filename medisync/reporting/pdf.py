"""One prediction as a PDF to take along; no streamlit, no torch. It names no file and no patient."""

from collections.abc import Mapping

import numpy as np
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from numpy.typing import NDArray
from PIL import Image

from medisync.reporting.charts.theme import CLASS_COLOURS
from medisync.reporting.formatting import CLASS_NAMES, interval, moment, percent, plausible
from medisync.reporting.pictures import overlay
from medisync.schemas import LABELS, Interval, ModelMeta, Prediction

MARGIN, WIDTH = 18, 174
"""Millimetres on A4."""

DISCLAIMER = "Research use only. This is not a medical device, and nothing here is a diagnosis."


def write(
    pixels: NDArray[np.uint8],
    heat: NDArray[np.floating],
    prediction: Prediction,
    opinions: Mapping[str, Prediction],
    meta: ModelMeta,
    made_at: str,
    hospital: str = "",
) -> bytes:
    """The report on a standardised image uint8 [S, S] and its heat map [S, S]; `made_at` in ISO 8601.

    `opinions` are those of the hospitals' own models, by hospital; `hospital` is where the scan is from, as `inference.load` has it.
    """
    page = FPDF(format="A4")
    page.set_title("MediSync FL: prediction for one MRI slice")
    page.set_margins(MARGIN, MARGIN)
    page.add_page()
    _head(page, made_at)
    _pictures(page, pixels, heat, prediction)
    _answer(page, prediction)
    _rows(page, "What to look at twice", _checks(prediction))
    _rows(page, "What hospitals' own models say", {name: _words(each) for name, each in opinions.items()})
    _rows(page, "The model", {**_model(meta), **_statistics(meta, hospital)})
    _line(page, DISCLAIMER, 9, "B", gap=4)
    return bytes(page.output())


def _line(page: FPDF, text: str, size: float, style: str = "", gap: float = 1) -> None:
    page.ln(gap)
    page.set_font("Helvetica", style, size)
    page.multi_cell(WIDTH, size * 0.5, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _latin(text: str) -> str:
    """The fonts that every PDF reader has know Latin-1 only."""
    return text.replace("–", "-").replace("…", "...").encode("latin-1", "replace").decode("latin-1")


def _head(page: FPDF, made_at: str) -> None:
    _line(page, "Prediction for one MRI slice", 18, "B", gap=0)
    _line(page, f"MediSync FL, {moment(made_at)}", 10)
    page.set_fill_color(255, 244, 214)
    page.ln(2)
    page.set_font("Helvetica", "B", 10)
    page.cell(WIDTH, 8, DISCLAIMER, fill=True, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _pictures(page: FPDF, pixels: NDArray[np.uint8], heat: NDArray[np.floating], prediction: Prediction) -> None:
    side, top = 70, page.get_y() + 4
    for place, picture in enumerate((pixels, overlay(pixels, heat, 0.6))):
        page.image(Image.fromarray(picture), MARGIN + place * (side + 6), top, side, side)
    page.set_y(top + side)
    label = CLASS_NAMES[prediction.label].lower()
    _line(page, f"Left: the slice as the network gets it. Right: the warmer, the more a place spoke for {label}.", 8)


def _answer(page: FPDF, prediction: Prediction) -> None:
    name, confidence = CLASS_NAMES[prediction.label], percent(prediction.confidence)
    _line(page, f"{name}, calibrated confidence {confidence}", 14, "B", gap=4)
    _line(page, f"90 % prediction set: {plausible(prediction.plausible)}", 10)
    if prediction.unlike_training:
        _line(page, "Unlike the training scans: do not rely on this prediction.", 11, "B")
    page.ln(2)
    for label in LABELS:
        _bar(page, CLASS_NAMES[label], prediction.probabilities[label], CLASS_COLOURS[label])


def _bar(page: FPDF, name: str, share: float, colour: str) -> None:
    page.set_font("Helvetica", "", 10)
    page.cell(38, 6, _latin(name))
    page.set_fill_color(*(int(colour[start : start + 2], 16) for start in (1, 3, 5)))
    page.rect(page.get_x(), page.get_y() + 1.2, max(0.3, 100 * share), 3.6, style="F")
    page.set_x(page.get_x() + 104)
    page.cell(20, 6, _latin(percent(share)), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _rows(page: FPDF, title: str, rows: Mapping[str, str]) -> None:
    if not rows:
        return
    _line(page, title, 12, "B", gap=4)
    page.ln(1)
    for name, text in rows.items():
        page.set_font("Helvetica", "B", 9)
        page.cell(46, 5, _latin(name))
        page.set_font("Helvetica", "", 9)
        page.multi_cell(WIDTH - 46, 5, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _words(prediction: Prediction) -> str:
    unlike = "; unlike its own training scans" if prediction.unlike_training else ""
    return f"{CLASS_NAMES[prediction.label]}, {percent(prediction.confidence)}{unlike}"


def _checks(prediction: Prediction) -> dict[str, str]:
    failed = {check.name.capitalize(): check.detail for check in prediction.checks if not check.passed}
    return {**failed, **{f"Note {place}": note for place, note in enumerate(prediction.notes, start=1)}}


def _model(meta: ModelMeta) -> dict[str, str]:
    test = meta.metrics.test
    trained = f"{meta.run}, {moment(meta.trained_at)}, {meta.image_size} x {meta.image_size} pixels"
    return {
        "Run": f"{trained}; SHA-256 {meta.model_sha256[:16]}",
        "Data": "synthetic phantoms, no patients"
        if meta.synthetic
        else f"simulated hospitals: {', '.join(meta.datasets)}",
        "Test accuracy": f"{percent(test.accuracy)}{_range(test.intervals.get('accuracy'))}, {test.n} slices",
        "By hospital": "; ".join(f"{name} {percent(each.accuracy)}" for name, each in meta.metrics.hospitals.items()),
        "Calibration error": percent(test.ece),
    }


def _statistics(meta: ModelMeta, hospital: str) -> dict[str, str]:
    """Whose statistics the scan was normalised by, where hospitals have their own."""
    whose = f"those of {hospital}" if hospital else "the mean of the hospitals'"
    return {"Statistics": whose} if meta.statistics_of else {}


def _range(found: Interval | None) -> str:
    return f" (95 %: {interval(found)})" if found else ""
