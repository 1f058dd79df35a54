"""Takes the pictures of the README: serves the dashboard, opens six pages in Chromium and saves what they show.

    make screenshots

Shows the newest run of the project, or of the workspace in MEDISYNC_WORKSPACE. No picture shows a patient's scan. The picture
of a prediction shows a phantom tumour, and it is chosen by a rule that does not look for the prettiest map: of the 60 phantom
tumours of benchmarks/heat_maps.py, right or wrong, the one with the median fraction of heat in the lesion. The script prints
what that picture shows, for its caption in the README.
"""

import io
import os
import shutil
import sys
from pathlib import Path

import dashboard_load
import heat_maps
from heat_maps import Measurement
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from medisync.inference import predictor
from medisync.workspace import artifacts

DOCS = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 90_000
DRAWING_MS = 2500
"""Plotly and Leaflet draw after the script has ended and do not signal when they have finished."""

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
    """Takes all pictures; returns 0, or 1 if there is no Chromium."""
    if not CHROMIUM:
        print("no Chromium found: install Debian's `chromium` or set $CHROMIUM", file=sys.stderr)
        return 1
    workspace = artifacts.locate(None)
    chosen = heat_maps.median(heat_maps.measure(predictor.open_run(artifacts.list_runs(workspace)[0].folder)))
    print(caption(chosen), flush=True)
    with dashboard_load.served(workspace.root) as (host, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name in SHOTS:
            shoot(browser, host, name, chosen)
        browser.close()
    return 0


def caption(chosen: Measurement) -> str:
    """Returns what the picture of the prediction shows, in one sentence."""
    place = "in" if chosen.peak_in_lesion else "outside"
    return (
        f"prediction.png: a phantom {chosen.label}, predicted {chosen.predicted}; {chosen.heat_in_lesion:.0%} of the heat lies "
        f"in the lesion, which covers {chosen.lesion_area:.0%} of the image; the highest point lies {place} it"
    )


def shoot(browser: Browser, host: str, name: str, chosen: Measurement) -> None:
    """Opens a page and saves what it shows, once it has been drawn."""
    path, theme, width, height = SHOTS[name]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"http://{host}/{path}")
    expect(page.locator("h1")).to_be_visible(timeout=WAIT_MS)
    if name == "prediction":
        upload(page, chosen)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=WAIT_MS)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT_MS)
    page.wait_for_timeout(DRAWING_MS)
    page.screenshot(path=str(DOCS / f"{name}.png"))
    context.close()
    print(f"docs/{name}.png", flush=True)


def upload(page: Page, chosen: Measurement) -> None:
    """Uploads the chosen phantom as a PNG and waits for its prediction."""
    stream = io.BytesIO()
    Image.fromarray(chosen.image).save(stream, "PNG")
    file = {"name": f"phantom-{chosen.label}.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_text("Calibrated confidence")).to_be_visible(timeout=WAIT_MS)


if __name__ == "__main__":
    sys.exit(main())
