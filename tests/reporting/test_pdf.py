"""The PDF report, read back."""

import io

import factories
import numpy as np
from pypdf import PdfReader
from scans import texture

from medisync.reporting import pdf
from medisync.schemas import ImageCheck, ModelMeta, Prediction

SURE = Prediction(
    label="glioma",
    confidence=0.913,
    probabilities={"glioma": 0.913, "meningioma": 0.08, "pituitary": 0.005, "notumor": 0.002},
    plausible=["glioma", "meningioma"],
    distance=1.1,
    unlike_training=False,
    checks=[ImageCheck(name="size", passed=False, detail="90 x 90 pixels")],
    notes=["colour dropped"],
)


def text(prediction: Prediction, meta: ModelMeta | None = None, hospital: str = "") -> str:
    heat = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    made_at, local = "2026-11-24T09:30:00+00:00", dict.fromkeys(factories.HOSPITALS, prediction)
    data = pdf.write(texture(1, 64), heat, prediction, local, meta or factories.meta(), made_at, hospital)
    reader = PdfReader(io.BytesIO(data))
    assert len(reader.pages) == 1
    assert len(reader.pages[0].images) == 2
    return reader.pages[0].extract_text().replace("\N{NO-BREAK SPACE}", " ")


def test_report_says_what_the_page_says() -> None:
    found = text(SURE)
    assert "Glioma, calibrated confidence 91.3 %" in found
    assert "Glioma or meningioma." in found
    assert "AIIMS Delhi alone\nGlioma, 91.3 %" in found or "AIIMS Delhi alone Glioma, 91.3 %" in found
    assert "90 x 90 pixels" in found
    assert "run-001" in found
    assert "89.6 % (86.6 to 92.1), 405 slices; 95 % interval in brackets" in found
    assert found.count("nothing here is a diagnosis") == 2
    assert "do not rely on this prediction" not in found


def test_report_on_an_out_of_distribution_scan_says_so() -> None:
    assert "Out of distribution: do not rely" in text(SURE.model_copy(update={"unlike_training": True}))


def judged(verdict: str, *reasons: str) -> Prediction:
    return SURE.model_copy(update={"verdict": verdict, "reasons": list(reasons)})


def test_the_verdict_of_a_report_comes_before_the_class() -> None:
    meta = factories.meta(thresholds=(0.6, 0.95))
    found = text(judged("doubt", "moderate confidence", "image checks"), meta, "Tata Memorial Mumbai")
    assert "Answer with doubt: glioma, calibrated confidence 91.3 %" in found
    assert "Moderate confidence: below 95 %." in found
    assert "The image needs review: size (90 x 90 pixels)." in found
    assert "Prior of Tata Memorial Mumbai, which has no training scans without a tumour" in found
    assert "Answer: glioma, calibrated confidence 91.3 %" in text(judged("answer"), meta)


def test_a_report_without_an_answer_says_so_first_and_names_no_class_above_the_reason() -> None:
    found = text(judged("no answer", "low confidence"), factories.meta(thresholds=(0.95, 0.95)))
    above, below = found.split("Low confidence: below 95 %.")
    assert above.splitlines()[-1] == "No answer"
    assert "lioma" not in above
    assert "Prior: none; the scan may come from anywhere." in below
    assert "The network leaned to glioma (calibrated confidence 91.3 %). This is not an answer." in below
    assert "contributed more to what the network leaned to." in below


def test_report_says_whose_running_statistics_were_used_if_hospitals_have_their_own() -> None:
    assert "Running statistics" not in text(SURE)
    own = factories.meta().model_copy(update={"statistics_of": ["AIIMS Delhi"]})
    assert "those of AIIMS Delhi" in text(SURE, own, "AIIMS Delhi")
    assert "the mean of the hospitals'" in text(SURE, own)


def test_characters_outside_the_fonts_do_not_stop_the_report() -> None:
    assert "Note 1" in text(SURE.model_copy(update={"notes": ["\N{SNOWMAN} नमस्ते"]}))


def test_report_on_a_slice_of_a_volume_names_it() -> None:
    found = text(SURE.model_copy(update={"slice_number": 11, "slices": 20}))
    assert "24 Nov 2026, 09:30 UTC; slice 11 of 20" in found
    assert "slice 1" not in text(SURE)
