"""axe-core on every page in both themes, and a prediction by keyboard alone."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import WAIT, Visit
from playwright.sync_api import expect
from test_pages import PAGES

GRAVE = ("serious", "critical")

NOT_OURS = ("list", "listitem")
"""Rules that Streamlit 1.67's own sidebar breaks with headings in its list of pages; the pages themselves have no lists."""


def violations(visit: Visit) -> list[str]:
    """Returns the grave violations that are ours to fix: rule and element."""
    rules = {rule: {"enabled": False} for rule in NOT_OURS}
    found = Axe().run(visit.page, options={"rules": rules}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}" for each in found if each["impact"] in GRAVE for node in each["nodes"]
    ]


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> Literal["light", "dark"]:
    return request.param


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_grave(visit: Visit, path: str) -> None:
    visit.open(path)
    visit.settle()
    assert violations(visit) == []


def test_axe_finds_nothing_grave_in_a_prediction(visit: Visit, scan: bytes) -> None:
    visit.open("prediction")
    visit.upload(("scan.png", scan))
    expect(visit.page.get_by_text("Calibrated confidence")).to_be_visible(timeout=WAIT)
    visit.settle()
    assert violations(visit) == []


def test_keyboard_alone_reaches_a_prediction(visit: Visit) -> None:
    visit.open("")
    visit.settle()
    press_tab_until(visit, "Prediction")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("h1")).to_have_text("Prediction", timeout=WAIT)
    sample = visit.page.get_by_role("radio", name="Glioma")
    expect(sample).to_be_visible()
    visit.settle()
    press_tab_until(visit, "Glioma")
    expect(sample).to_be_focused()
    visit.page.keyboard.press("Space")
    expect(sample).to_be_checked()
    expect(visit.page.get_by_text("Calibrated confidence")).to_be_visible(timeout=WAIT)


def press_tab_until(visit: Visit, text: str) -> None:
    """Presses Tab until the focus is on an element with this text, at most 60 times."""
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        lines = str(visit.page.evaluate("document.activeElement.innerText")).split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if text in said and len(said) <= 2:  # the element and its icon, but not a whole region around it
            return
    pytest.fail(f"the keyboard does not reach {text}")
