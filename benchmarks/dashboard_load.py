"""Many simultaneous sessions of the dashboard, without browsers: `make torture` runs them for three minutes.

A session speaks the protocol of Streamlit's front end: messages over a websocket, uploads over HTTP. Each session uploads its
own scans under its own names, opens pages and switches runs. Whatever it receives is searched for the names of the others.
"""

import io
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import psutil  # type: ignore[import-untyped]
import requests  # type: ignore[import-untyped]
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs, FileURLsRequest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.sync.client import connect

from medisync.network.services import free_port

ROOT = Path(__file__).parent.parent
PAGES = ("", "hospitals", "data_audit", "training", "evaluation", "runs", "logs")
XSRF = "_streamlit_xsrf"
PATIENCE = 120.0
"""Seconds that a session waits for a script to end; many sessions share the machine."""


@contextmanager
def served(workspace: Path, output: int | IO[str] = subprocess.DEVNULL) -> Iterator[tuple[str, psutil.Process]]:
    """Serves a workspace with `medisync serve`; yields address and process. Raises RuntimeError if it does not start."""
    port = free_port()
    command = [sys.executable, "-m", "medisync", "serve", "--workspace", str(workspace), "--port", str(port)]
    with started(command, f"127.0.0.1:{port}", output=output) as process:
        yield f"127.0.0.1:{port}", psutil.Process(process.pid)


@contextmanager
def started(
    command: Sequence[str],
    address: str,
    *,
    path: str = "/_stcore/health",
    output: int | IO[str] = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a web server until the block ends; yields it once it answers. Raises RuntimeError if it does not start."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=env)
    try:
        _wait_until_healthy(process, f"http://{address}{path}")
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_until_healthy(process: "subprocess.Popen[bytes]", address: str) -> None:
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        with suppress(urllib.error.URLError, TimeoutError), urllib.request.urlopen(address, timeout=1):  # noqa: S310
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise RuntimeError("the dashboard did not start within 60 s: run `medisync serve` on that workspace to see why")


@dataclass
class Shown:
    """The content of a page: the text of all messages, and the widgets that can be used."""

    text: str = ""
    errors: list[str] = field(default_factory=list)
    uploader: str = ""
    """The id of the file uploader, if the page has one."""
    runs: tuple[str, Sequence[str]] = ("", ())
    """The id of the select box for the run, and its options."""


class Session:
    """One session, from opening the dashboard to leaving it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stack = ExitStack()
        self._http = self._stack.enter_context(requests.Session())
        self._http.headers["Connection"] = "close"  # the server closes idle ones after 5 s, possibly as they are reused
        self._http.get(f"http://{address}/_stcore/health", timeout=PATIENCE)
        self._token = self._http.cookies.get(XSRF, "")
        opened = connect(
            f"ws://{address}/_stcore/stream",
            subprotocols=["streamlit", self._token],  # type: ignore[list-item]
            additional_headers={"Cookie": f"{XSRF}={self._token}"},
            origin=f"http://{address}",  # type: ignore[arg-type]
            max_size=None,
        )
        self._socket = self._stack.enter_context(opened)
        self._id = ""
        self._states: dict[str, WidgetState] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, page: str) -> Shown:
        """Opens a page with the widgets as chosen so far and returns what it sent."""
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.widget_states.CopyFrom(WidgetStates(widgets=self._states.values()))
        self._send(message)
        return self._until_finished()

    def choose(self, box: str, option: str) -> None:
        """Chooses an option of a select box, for the next opening."""
        self._states[box] = WidgetState(id=box, string_value=option)

    def upload(self, uploader: str, name: str, content: bytes) -> None:
        """Uploads a file, for the next opening."""
        request = FileURLsRequest(request_id=name, file_names=[name], session_id=self._id)
        self._send(BackMsg(file_urls_request=request))
        urls = self._await_urls(name)
        answer = self._http.put(
            f"http://{self._address}{urls.upload_url}",
            files={name: (name, content, "application/octet-stream")},
            headers={"X-Xsrftoken": self._token},
            timeout=PATIENCE,
        )
        answer.raise_for_status()
        state = WidgetState(id=uploader)
        state.file_uploader_state_value.uploaded_file_info.add(
            file_id=urls.file_id, name=name, size=len(content), file_urls=urls
        )
        self._states[uploader] = state

    def _send(self, message: BackMsg) -> None:
        self._socket.send(message.SerializeToString())

    def _receive(self) -> ForwardMsg:
        return ForwardMsg.FromString(self._socket.recv(timeout=PATIENCE))  # type: ignore[arg-type]

    def _await_urls(self, request: str) -> FileURLs:
        while True:
            message = self._receive()
            if message.WhichOneof("type") == "file_urls_response" and message.file_urls_response.response_id == request:
                urls: FileURLs = message.file_urls_response.file_urls[0]
                return urls

    def _until_finished(self) -> Shown:
        shown = Shown()
        while True:
            message = self._receive()
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self._id = message.new_session.initialize.session_id or self._id
            elif kind == "delta":
                _note(message, shown)
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY:
                return shown


def _note(message: ForwardMsg, shown: Shown) -> None:
    element = message.delta.new_element
    kind = element.WhichOneof("type")
    shown.text += str(element)
    if kind == "exception":
        shown.errors.append(element.exception.message)
    elif kind == "file_uploader":
        shown.uploader = element.file_uploader.id
    elif kind == "selectbox" and any(option.startswith("run-") for option in element.selectbox.options):
        shown.runs = (element.selectbox.id, list(element.selectbox.options))


@dataclass
class Load:
    """The result of all sessions together."""

    openings: int = 0
    predictions: int = 0
    seconds: list[float] = field(default_factory=list)
    """Seconds of every opening of a page."""
    megabytes: list[float] = field(default_factory=list)
    """The server's resident memory, once a second after warming up."""
    lost: list[str] = field(default_factory=list)
    """Errors, unanswered uploads and uploads seen by another session; there should be none."""


def growth(values: Sequence[float]) -> float:
    """Returns the relative growth from the median of the first quarter to that of the last: 0.03 for 3 % more."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) / statistics.median(values[:quarter]) - 1


def run_session(address: str, number: int, until: float, load: Load, lock: threading.Lock) -> None:
    """Runs one session: random pages of random runs, with a scan of its own in between."""
    generator = random.Random(number)  # noqa: S311
    try:
        with Session(address) as session:
            box, options = session.open("").runs
            while True:
                session.choose(box, generator.choice(options))
                _look(session, generator.choice(PAGES), number, load, lock)
                _predict(session, number, generator.randrange(10**6), load, lock)
                if time.monotonic() > until:
                    return
    except Exception as error:  # noqa: BLE001 - any failure of a session is a finding
        with lock:
            load.lost.append(f"{type(error).__name__}: {error}")


def _look(session: Session, page: str, number: int, load: Load, lock: threading.Lock) -> Shown:
    started = time.monotonic()
    shown = session.open(page)
    with lock:
        load.openings += 1
        load.seconds.append(time.monotonic() - started)
        load.lost += shown.errors
        if _holds_others_uploads(shown.text, number):
            load.lost.append("a session saw another's upload")
    return shown


def _holds_others_uploads(text: str, number: int) -> bool:
    """True if the text holds a name that another session gave to a scan."""
    return "loadtest-" in text.replace(f"loadtest-{number:02}-", "")


def _predict(session: Session, number: int, seed: int, load: Load, lock: threading.Lock) -> None:
    shown = _look(session, "prediction", number, load, lock)
    name = f"loadtest-{number:02}-{seed}.png"
    session.upload(shown.uploader, name, scan(seed))
    shown = _look(session, "prediction", number, load, lock)
    with lock:
        load.predictions += 1
        if name not in shown.text or "Calibrated confidence" not in shown.text:
            load.lost.append("an upload without an answer")


def scan(seed: int) -> bytes:
    """Returns a grey disc with a bright spot in a random place, as a PNG."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-80:80, -80:80]
    right, down = generator.integers(-30, 30, 2)
    pixels = np.where(x**2 + y**2 < 70**2, 90, 0) + np.where((x - right) ** 2 + (y - down) ** 2 < 15**2, 120, 0)
    noisy = pixels + generator.normal(0, 5, pixels.shape)
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def crowd(workspace: Path, sessions: int, seconds: float) -> Load:
    """Runs so many sessions at once for so many seconds; the first third of the time is warming up."""
    load, lock = Load(), threading.Lock()
    with served(workspace) as (address, server):
        started = time.monotonic()
        arguments = [(address, number, started + seconds, load, lock) for number in range(sessions)]
        threads = [threading.Thread(target=run_session, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)
            if time.monotonic() - started > seconds / 3:
                load.megabytes.append(server.memory_info().rss / 1e6)
    return load
