"""User actions on the pages: open each, switch the run, click a hospital, choose, search, read on a phone."""

import contextlib

import pytest
from conftest import WAIT, Server, Visit
from playwright.sync_api import expect

PAGES = {
    "": ("Overview", "2 of 3 hospitals lack a class"),
    "hospitals": ("Hospitals", "found are used"),
    "data_audit": ("Data audit", "Files left out"),
    "training": ("Training", "Participation, time and traffic"),
    "evaluation": ("Evaluation", "Most frequent error"),
    "prediction": ("Prediction", "not a diagnosis"),
    "runs": ("Runs", "Parameters that differ"),
    "logs": ("Logs", "not in this workspace"),
}


@pytest.mark.parametrize("path", PAGES)
def test_page_opens_and_asks_no_other_host(visit: Visit, path: str) -> None:
    title, content = PAGES[path]
    visit.open(path)
    expect(visit.page.locator("h1")).to_have_text(title)
    expect(visit.page.get_by_text(content).first).to_be_visible()
    expect(visit.page.get_by_text("Synthetic data.")).to_be_visible()
    visit.settle()
    visit.page.wait_for_load_state("networkidle")
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
def test_phone_shows_it_without_scrolling_sideways(visit: Visit, path: str) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open(path)
    visit.settle()
    main = visit.page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")


def test_run_is_switched_for_all_pages(visit: Visit) -> None:
    visit.open("")
    expect(visit.page.get_by_text("Synthetic data.")).to_be_visible()
    visit.page.get_by_test_id("stSidebar").get_by_role("combobox").click()
    visit.page.get_by_role("option", name="run-001").click()
    expect(visit.page.get_by_text("run-001 finished")).to_be_visible()
    expect(visit.page.get_by_text("Synthetic data.")).to_have_count(0)
    visit.page.get_by_role("link", name="Runs").click()
    expect(visit.page.get_by_role("button", name="run-001 is shown")).to_be_disabled()
    visit.page.get_by_role("button", name="Show run-002").click()
    expect(visit.page.get_by_text("Synthetic data.")).to_be_visible()


def test_click_on_a_hospital_of_the_map_opens_it(visit: Visit) -> None:
    visit.open("")
    drawn = visit.page.frame_locator("iframe[title='streamlit_folium.st_folium']")
    expect(drawn.locator("path.leaflet-interactive")).to_have_count(3)
    expect(drawn.get_by_text("AIIMS Delhi")).to_be_visible()
    visit.settle()
    heading = visit.page.locator("h1")
    for _ in range(8):  # a click is lost where the map is drawn anew in the same moment
        drawn.locator("path.leaflet-interactive").nth(1).click()
        with contextlib.suppress(AssertionError):
            expect(heading).to_have_text("Hospitals", timeout=8000)
            break
    expect(heading).to_have_text("Hospitals")
    expect(visit.page.get_by_text("NIMHANS Bengaluru (simulated)")).to_be_visible()
    visit.page.get_by_role("link", name="Overview").click()
    visit.settle()
    expect(visit.page.locator("h1")).to_have_text("Overview")  # and stays there: the click is spent


def test_most_confident_errors_appear_on_request(visit: Visit) -> None:
    visit.open("evaluation")
    visit.page.get_by_role("button", name="Predict all test scans").click()
    expect(visit.page.get_by_text("3 test scans were misclassified")).to_be_visible(timeout=WAIT)
    expect(visit.page.get_by_role("img", name="A test scan of class")).to_have_count(3)


def test_copies_stand_side_by_side(visit: Visit, server: Server) -> None:
    visit.open("data_audit")
    expect(visit.page.get_by_role("img", name="One of two copies of a slice")).to_have_count(2, timeout=WAIT)
