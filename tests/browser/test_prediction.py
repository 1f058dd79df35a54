"""What a person does in a real browser: open every page, upload a scan, upload a broken file. No other host is asked."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import factories
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, Request, expect, sync_playwright

from medisync import artifacts, inference, model
from medisync.dashboard.words import CLASS_NAMES, percent

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
QUIET = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
QUIET += ["disable-component-update", "disable-sync"]
SCAN_NAME = "scan-of-nobody.png"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install Debian's `chromium` or set $CHROMIUM")


@dataclass
class Visit:
    """A browser tab on the running dashboard, and every request that left for another host."""

    page: Page
    address: str
    elsewhere: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}/{path}")
        expect(self.page.locator("h1")).to_be_visible(timeout=30_000)

    def note(self, request: Request) -> None:
        host = self.address.removeprefix("http://")
        if not request.url.startswith((f"http://{host}/", f"ws://{host}/", "data:", "blob:")):
            self.elsewhere.append(request.url)


@dataclass(frozen=True)
class Server:
    address: str
    log: Path
    run: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real `streamlit run app.py` on a workspace with one run."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("workspace"))
    run = factories.make_run(workspace, model=model.serialise(model.build().state_dict()))
    log = workspace.root / "server.log"
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    environment = {**os.environ, "MEDISYNC_WORKSPACE": str(workspace.root)}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
        try:
            _wait_until_healthy(process, f"http://127.0.0.1:{port}")
            yield Server(f"http://127.0.0.1:{port}", log, run)
        finally:
            process.terminate()
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_healthy(process: "subprocess.Popen[bytes]", address: str) -> None:
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):  # noqa: S310
                return
        except (urllib.error.URLError, TimeoutError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    pytest.fail("the dashboard did not start")


@pytest.fixture(scope="module")
def browser_context() -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in QUIET])
        yield browser.new_context()
        browser.close()


@pytest.fixture
def visit(server: Server, browser_context: BrowserContext) -> Iterator[Visit]:
    page = browser_context.new_page()
    found = Visit(page, server.address)
    page.on("request", found.note)
    yield found
    page.close()
    assert found.elsewhere == []


def scan() -> bytes:
    """A grey disc with a bright spot: an image, and no one's scan."""
    y, x = np.mgrid[-80:80, -80:80]
    pixels = np.where(x**2 + y**2 < 70**2, 90, 0) + np.where((x - 20) ** 2 + y**2 < 15**2, 120, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("path", "title", "content"),
    [
        ("", "Overview", "2 of 3 hospitals lack a class"),
        ("data_audit", "Data audit", "Files left out"),
        ("training", "Training", "What the rounds took"),
        ("evaluation", "Evaluation", "Most frequent mistake"),
        ("prediction", "Prediction", "not a diagnosis"),
        ("runs", "Runs", "Finished"),
    ],
)
def test_page_opens_and_asks_no_other_host(visit: Visit, path: str, title: str, content: str) -> None:
    visit.open(path)
    expect(visit.page.locator("h1")).to_have_text(title)
    expect(visit.page.get_by_text(content).first).to_be_visible()
    expect(visit.page.get_by_text("Synthetic data.")).to_be_visible()
    visit.page.wait_for_load_state("networkidle")


def test_map_draws_the_hospitals_from_our_own_leaflet(visit: Visit) -> None:
    visit.open("")
    drawn = visit.page.frame_locator("iframe[title='streamlit_folium.st_folium']")
    expect(drawn.locator("path.leaflet-interactive")).to_have_count(3)
    expect(drawn.get_by_text("AIIMS Delhi")).to_be_visible()


def test_uploaded_scan_gets_a_class_and_a_broken_file_a_sentence(visit: Visit, server: Server) -> None:
    visit.open("prediction")
    files = [
        {"name": SCAN_NAME, "mimeType": "image/png", "buffer": scan()},
        {"name": "broken-of-nobody.png", "mimeType": "image/png", "buffer": b"<html>no image</html>"},
    ]
    visit.page.locator("input[type=file]").set_input_files(files)
    answer = visit.page.get_by_test_id("stMetric").filter(has_text="Predicted class")
    written = (server.run / artifacts.MODEL, server.run / artifacts.DISTRIBUTION)
    classifier = inference.load(*written, artifacts.read(server.run, artifacts.META))
    expected = inference.predict(classifier, scan())
    expect(answer).to_contain_text(CLASS_NAMES[expected.label], timeout=60_000)
    confidence = visit.page.get_by_test_id("stMetric").filter(has_text="Calibrated confidence")
    expect(confidence).to_contain_text(percent(expected.confidence))
    refusal = visit.page.get_by_test_id("stAlertContentError")
    expect(refusal).to_contain_text("Not an image that can be read here")
    expect(visit.page.get_by_text("Traceback")).to_have_count(0)
    assert "of-nobody" not in server.log.read_text()


def test_phone_reads_the_prediction_without_scrolling_sideways(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open("prediction")
    visit.page.locator("input[type=file]").set_input_files(
        {"name": SCAN_NAME, "mimeType": "image/png", "buffer": scan()}
    )
    expect(visit.page.get_by_text("Predicted class")).to_be_visible(timeout=60_000)
    main = visit.page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
