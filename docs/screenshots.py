"""The pictures of the README: serves the dashboard, opens six pages in Chromium and keeps what it shows.

    make screenshots

Shows the run that comes with the project, or the workspace that MEDISYNC_WORKSPACE names. Scans of patients are in none of
them: the prediction is of a computer-drawn sample.
"""

import os
import shutil
import sys
from pathlib import Path

import dashboard_load
from playwright.sync_api import Page, expect, sync_playwright

from medisync.workspace import artifacts

DOCS = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 90_000

SHOTS = {
    "dashboard": ("", "light", 1440, 1000),
    "training": ("training", "light", 1440, 1000),
    "evaluation": ("evaluation", "dark", 1440, 1000),
    "data-audit": ("data_audit", "light", 1440, 1000),
    "prediction": ("prediction", "light", 1440, 1080),
    "phone": ("hospitals", "dark", 390, 844),
}
"""File name: (page, theme, width, height)."""


def main() -> int:
    if not CHROMIUM:
        print("no Chromium: install Debian's `chromium` or set $CHROMIUM", file=sys.stderr)
        return 1
    with dashboard_load.served(artifacts.locate(None).root) as (host, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, (path, theme, width, height) in SHOTS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            shoot(context.new_page(), f"http://{host}/{path}", DOCS / f"{name}.png")
            context.close()
        browser.close()
    return 0


def shoot(page: Page, address: str, target: Path) -> None:
    page.goto(address)
    expect(page.locator("h1")).to_be_visible(timeout=WAIT_MS)
    if address.endswith("/prediction"):
        page.get_by_role("radio", name="Meningioma").click()
        expect(page.get_by_text("Calibrated confidence")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=WAIT_MS)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT_MS)
    page.wait_for_timeout(
        2500
    )  # plotly and Leaflet draw after the script has ended, and say nothing when they are done
    page.screenshot(path=str(target))
    print(f"{target.relative_to(DOCS.parent)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
