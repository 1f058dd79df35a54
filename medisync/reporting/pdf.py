"""The PDF report on one prediction. It names neither the file nor the patient."""

from collections.abc import Mapping

import numpy as np
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from numpy.typing import NDArray
from PIL import Image

from medisync.reporting import verdicts
from medisync.reporting.charts.theme import CLASS_COLOURS
from medisync.reporting.formatting import CLASS_NAMES, count, moment, percent, prediction_set, with_interval
from medisync.reporting.pictures import overlay
from medisync.reporting.prediction_tables import slice_place
from medisync.schemas import LABELS, ModelMeta, Prediction

MARGIN, WIDTH, BOTTOM, PICTURE = 18, 174, 12, 62
"""Millimetres on A4: margins at the sides and above, width of the text, margin below, side of a picture. Most reports fit on
one page."""

DISCLAIMER = "Research use only. This is not a medical device, and nothing here is a diagnosis."


def write(
    pixels: NDArray[np.uint8],
    heat: NDArray[np.floating],
    prediction: Prediction,
    local: Mapping[str, Prediction],
    meta: ModelMeta,
    made_at: str,
    hospital: str = "",
) -> bytes:
    """Returns the report on a standardised image uint8 [S, S] and its heat map [S, S] in [0, 1].

    The verdict comes first. `local` holds the predictions of the hospitals' local models, by hospital. `made_at` is in ISO 8601.
    `hospital` is where the scan was made if that is a hospital of the federation, as in `predictor.load`.
    """
    page = FPDF(format="A4")
    page.set_title("MediSync FL: prediction for one MRI slice")
    page.set_margins(MARGIN, MARGIN)
    page.set_auto_page_break(True, BOTTOM)
    page.add_page()
    _head(page, made_at, prediction)
    _verdict(page, prediction, meta, hospital)
    _pictures(page, pixels, heat, prediction)
    _answer(page, prediction)
    _rows(page, "Points to review", _checks(prediction))
    _rows(page, "Predictions of the local models", {f"{name} alone": _summary(each) for name, each in local.items()})
    _rows(page, "The model", {**_model(meta), **_running_statistics(meta, hospital)})
    _line(page, DISCLAIMER, 9, "B", gap=4)
    return bytes(page.output())


def _line(page: FPDF, text: str, size: float, style: str = "", gap: float = 1) -> None:
    page.ln(gap)
    page.set_font("Helvetica", style, size)
    page.multi_cell(WIDTH, size * 0.5, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _latin(text: str) -> str:
    """Returns `text` in Latin-1, which is all that the standard PDF fonts cover."""
    return text.replace("–", "-").replace("…", "...").encode("latin-1", "replace").decode("latin-1")


def _head(page: FPDF, made_at: str, prediction: Prediction) -> None:
    place = f"; slice {slice_place(prediction.slice_number, prediction.slices)}" if prediction.slices > 1 else ""
    _line(page, "Prediction for one MRI slice", 18, "B", gap=0)
    _line(page, f"MediSync FL, {moment(made_at)}{place}", 10)
    page.set_fill_color(255, 244, 214)
    page.ln(2)
    page.set_font("Helvetica", "B", 10)
    page.cell(WIDTH, 8, DISCLAIMER, fill=True, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _verdict(page: FPDF, prediction: Prediction, meta: ModelMeta, hospital: str) -> None:
    """Writes the verdict, why it is what it is and the prior; nothing for a run before verdicts."""
    if prediction.verdict is None:
        return
    sure = f", calibrated confidence {percent(prediction.confidence)}" if prediction.verdict != "no answer" else ""
    _line(page, f"{verdicts.headline(prediction)}{sure}", 14, "B", gap=3)
    fitted = meta.calibration_at(hospital)
    for said in filter(None, [*verdicts.reasons(prediction, fitted, hospital), verdicts.prior(meta, hospital)]):
        _line(page, said, 9)


def _pictures(page: FPDF, pixels: NDArray[np.uint8], heat: NDArray[np.floating], prediction: Prediction) -> None:
    side, top = PICTURE, page.get_y() + 4
    for column, picture in enumerate((pixels, overlay(pixels, heat, 0.6))):
        page.image(Image.fromarray(picture), MARGIN + column * (side + 6), top, side, side)
    page.set_y(top + side)
    label = "what the network leaned to" if prediction.verdict == "no answer" else CLASS_NAMES[prediction.label].lower()
    _line(page, f"Left: the slice as the network receives it. Right: warmer regions contributed more to {label}.", 8)


def _answer(page: FPDF, prediction: Prediction) -> None:
    name, confidence = CLASS_NAMES[prediction.label], percent(prediction.confidence)
    if prediction.verdict is None:
        _line(page, f"{name}, calibrated confidence {confidence}", 14, "B", gap=4)
    if prediction.verdict == "no answer":
        _line(page, verdicts.leaning(prediction), 10, gap=4)
    _line(page, f"90 % prediction set: {prediction_set(prediction.plausible)}", 10)
    if prediction.verdict is None and prediction.unlike_training:
        _line(page, "Out of distribution: do not rely on this prediction.", 11, "B")
    page.ln(2)
    for label in LABELS:
        _bar(page, CLASS_NAMES[label], prediction.probabilities[label], CLASS_COLOURS[label])


def _bar(page: FPDF, name: str, probability: float, colour: str) -> None:
    page.set_font("Helvetica", "", 10)
    page.cell(38, 6, _latin(name))
    page.set_fill_color(*(int(colour[start : start + 2], 16) for start in (1, 3, 5)))
    page.rect(page.get_x(), page.get_y() + 1.2, max(0.3, 100 * probability), 3.6, style="F")
    page.set_x(page.get_x() + 104)
    page.cell(20, 6, _latin(percent(probability)), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


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


def _summary(prediction: Prediction) -> str:
    if prediction.verdict:
        return verdicts.in_short(prediction)
    flagged = "; out of distribution for this model" if prediction.unlike_training else ""
    return f"{CLASS_NAMES[prediction.label]}, {percent(prediction.confidence)}{flagged}"


def _checks(prediction: Prediction) -> dict[str, str]:
    failed = {check.name.capitalize(): check.detail for check in prediction.checks if not check.passed}
    return {**failed, **{f"Note {index}": note for index, note in enumerate(prediction.notes, start=1)}}


def _model(meta: ModelMeta) -> dict[str, str]:
    test = meta.metrics.test
    trained = f"{meta.run}, {moment(meta.trained_at)}, {meta.image_size} x {meta.image_size} pixels"
    return {
        "Run": f"{trained}; SHA-256 {meta.model_sha256[:16]}",
        "Data": "synthetic phantoms, not patients"
        if meta.synthetic
        else f"simulated hospitals: {', '.join(meta.datasets)}",
        "Test accuracy": f"{with_interval(test, 'accuracy')}, {count(test.n, 'slice')}; 95 % interval in brackets",
        "By hospital": "; ".join(f"{name} {percent(each.accuracy)}" for name, each in meta.metrics.hospitals.items()),
        "Calibration error": percent(test.ece),
    }


def _running_statistics(meta: ModelMeta, hospital: str) -> dict[str, str]:
    """Returns whose running statistics normalised the scan, for a model in which hospitals have their own."""
    whose = f"those of {hospital}" if hospital else "the mean of the hospitals'"
    return {"Running statistics": whose} if meta.statistics_of else {}
