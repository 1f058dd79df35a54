"""The served dashboard, and a browser in which every request to another host is recorded."""

import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))  # the factories, also when these tests are run alone

import dashboard_load
import factories
from scans import save, texture

from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.schemas import LABELS
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
QUIET = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
QUIET += ["disable-component-update", "disable-sync"]
QUIET += ["host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]  # nothing else can be reached
WAIT = 300_000
"""Milliseconds for steps that load torch or a model on a busy machine."""
expect.set_options(timeout=180_000)  # all else is quick on an idle machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install Debian's `chromium` or set $CHROMIUM")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(missing)


@dataclass(frozen=True)
class Server:
    address: str
    log: Path
    workspace: artifacts.Workspace


@dataclass
class Visit:
    """A browser tab on the running dashboard, and the addresses on other hosts that it requested in vain."""

    page: Page
    address: str
    elsewhere: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}/{path}")
        expect(self.page.locator("h1")).to_be_visible(timeout=WAIT)

    def settle(self) -> None:
        """Waits until the page's script has ended."""
        expect(self.page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning", timeout=WAIT
        )

    def upload(self, *files: tuple[str, bytes]) -> None:
        sent = [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
        self.page.locator("input[type=file]").set_input_files(sent)  # type: ignore[arg-type]

    def metric(self, label: str) -> str:
        found = self.page.get_by_test_id("stMetric").filter(has_text=label)
        return str(found.get_by_test_id("stMetricValue").inner_text(timeout=WAIT))

    def note(self, url: str) -> None:
        host = self.address.removeprefix("http://")
        if not url.startswith((f"http://{host}/", f"ws://{host}/", "data:", "blob:")):
            self.elsewhere.append(url)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Runs the real `medisync serve` on a workspace with two runs; the scans of the second, a synthetic one, are there."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("workspace"))
    weights = serialise(build_resnet18().state_dict())
    paths = {label: f"one/{label}.png" for label in LABELS}
    for seed, path in enumerate([*paths.values(), "dataset-1/glioma/G_1.jpg", "dataset-2/glioma/7.png"]):
        save(workspace.dataset / path, texture(seed, 80))
    factories.make_run(workspace, synthetic=False, rounds=9)
    factories.make_run(workspace, model=weights, local=weights, splits={"AIIMS Delhi": paths})
    log = workspace.root / "server.log"
    with log.open("w") as stream, dashboard_load.served(workspace.root, stream) as (address, _):
        yield Server(f"http://{address}", log, workspace)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in QUIET])
        yield started
        started.close()


@pytest.fixture(scope="session")
def window(browser: Browser) -> BrowserContext:
    """Returns one context for all tabs, so that only the first fetches Streamlit's files; each tab has its own session."""
    return browser.new_context(viewport={"width": 1440, "height": 900})


@pytest.fixture
def theme() -> Literal["light", "dark"]:
    return "light"


@pytest.fixture
def visit(server: Server, window: BrowserContext, theme: Literal["light", "dark"]) -> Iterator[Visit]:
    """Opens a new tab; the test fails if it requested anything from another host."""
    page = window.new_page()
    page.emulate_media(color_scheme=theme)
    found = Visit(page, server.address)
    page.on("request", lambda request: found.note(request.url))
    page.on("websocket", lambda socket: found.note(socket.url))
    yield found
    page.close()
    assert found.elsewhere == []


@pytest.fixture(scope="session")
def scan() -> bytes:
    """Returns a grey disc with a bright spot: an image, but not a scan of anybody."""
    y, x = np.mgrid[-80:80, -80:80]
    pixels = np.where(x**2 + y**2 < 70**2, 90, 0) + np.where((x - 20) ** 2 + y**2 < 15**2, 120, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
