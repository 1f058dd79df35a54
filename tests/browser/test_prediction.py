"""User actions with a scan in a real browser: upload it, look at the heat map, download the results."""

import csv
import io
from pathlib import Path

import nibabel
import numpy as np
from conftest import WAIT, Server, Visit
from playwright.sync_api import expect
from pypdf import PdfReader
from scans import texture

from medisync.inference import predictor
from medisync.reporting.formatting import CLASS_NAMES, percent
from medisync.schemas import Prediction

SCAN_NAME = "scan-of-nobody.png"


def predicted(server: Server, content: bytes) -> Prediction:
    """Returns the prediction of the run's model without the dashboard."""
    run = server.workspace.artifacts / "run-002"
    return predictor.predict(predictor.open_run(run), content)


def downloaded(visit: Visit, button: str) -> bytes:
    with visit.page.expect_download(timeout=WAIT) as download:
        visit.page.get_by_role("button", name=button).first.click()
    return Path(download.value.path()).read_bytes()


def test_uploaded_scan_gets_a_class_and_a_broken_file_a_sentence(visit: Visit, server: Server, scan: bytes) -> None:
    visit.open("prediction")
    visit.upload((SCAN_NAME, scan), ("broken-of-nobody.png", b"<html>no image</html>"))
    expected = predicted(server, scan)
    assert visit.metric("Predicted class") == CLASS_NAMES[expected.label]
    assert visit.metric("Calibrated confidence") == percent(expected.confidence)
    expect(visit.page.get_by_test_id("stAlertContentError")).to_contain_text("Not an image that can be read here")
    expect(visit.page.get_by_text("1 of 1 local model predicts the same")).to_be_visible()
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)
    assert "of-nobody" not in server.log.read_text()


def test_overlay_slider_changes_the_picture_and_nothing_else(visit: Visit, scan: bytes) -> None:
    visit.open("prediction")
    visit.upload((SCAN_NAME, scan))
    picture = visit.page.get_by_role("img", name="The scan with its heat map")
    before = picture.get_attribute("src", timeout=WAIT)
    slider = visit.page.get_by_role("slider", name="Heat map")
    slider.press("Home")
    expect(picture).not_to_have_attribute("src", str(before), timeout=WAIT)
    expect(visit.page.get_by_test_id("stMetric").filter(has_text="Predicted class")).to_be_visible()


def test_table_and_report_are_downloaded(visit: Visit, server: Server, scan: bytes) -> None:
    visit.open("prediction")
    visit.upload((SCAN_NAME, scan), ("no.png", b"no image"))
    expected = predicted(server, scan)
    expect(visit.page.get_by_role("button", name="Report as PDF")).to_be_visible(timeout=WAIT)
    rows = list(csv.DictReader(io.StringIO(downloaded(visit, "Predictions as CSV").decode())))
    assert [row["path"] for row in rows] == [SCAN_NAME, "no.png"]
    assert [row["label"] for row in rows] == [expected.label, ""]
    assert float(rows[0][expected.label]) == round(expected.confidence, 4)
    (page,) = PdfReader(io.BytesIO(downloaded(visit, "Report as PDF"))).pages
    text = page.extract_text().replace("\N{NO-BREAK SPACE}", " ")
    confidence = percent(expected.confidence).replace("\N{NO-BREAK SPACE}", " ")
    assert f"{CLASS_NAMES[expected.label]}, calibrated confidence {confidence}" in text
    assert "nothing here is a diagnosis" in text
    assert "nobody" not in text


def test_the_chosen_slice_of_a_volume_is_in_the_csv_and_lasts_while_another_page_is_shown(visit: Visit) -> None:
    volume = np.stack([texture(seed, 80) for seed in range(5)], axis=2).astype(np.int16)
    visit.open("prediction")
    visit.upload(("=head.nii", nibabel.Nifti1Image(volume, np.eye(4)).to_bytes()))
    expect(visit.page.get_by_text("Slice 3 of 5 used")).to_be_visible(timeout=WAIT)
    visit.page.get_by_role("slider", name="Slice").press("End")
    expect(visit.page.get_by_text("Slice 5 of 5 used")).to_be_visible(timeout=WAIT)
    expect(visit.page.get_by_text("Along 5 slices")).to_be_visible(timeout=WAIT)
    visit.settle()  # the button below the chart is renewed last
    (row,) = csv.DictReader(io.StringIO(downloaded(visit, "Predictions as CSV").decode()))
    assert (row["path"], row["slice"], row["slices"]) == ("'=head.nii", "5", "5")
    visit.page.get_by_role("link", name="Overview").click()
    expect(visit.page.locator("h1")).to_have_text("Overview")
    visit.page.get_by_role("link", name="Prediction").click()
    expect(visit.page.get_by_text("Slice 5 of 5 used")).to_be_visible(timeout=WAIT)
    visit.page.get_by_role("button", name="Remove =head.nii").click()
    expect(visit.page.get_by_text("No scans yet")).to_be_visible()


def test_phone_reads_the_prediction_without_scrolling_sideways(visit: Visit, scan: bytes) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open("prediction")
    visit.upload((SCAN_NAME, scan))
    expect(visit.page.get_by_text("Predicted class")).to_be_visible(timeout=WAIT)
    main = visit.page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
