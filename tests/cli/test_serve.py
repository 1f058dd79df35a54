"""The dashboard as real processes: names in headers, Ctrl-C, ports, and nginx in front of it."""

import base64
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dashboard_load
import factories
import numpy as np
import pytest
from scans import save
from websockets.exceptions import InvalidStatus

from medisync.cli.main import main
from medisync.network.services import free_port
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

ROOT = Path(__file__).parent.parent.parent
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NAME = "José Müller 山田"
HEADERS: Mapping[str, bytes] = {
    "none": b"",
    "ascii": b"X-Forwarded-User: Jose\r\n",
    "utf-8": f"X-Forwarded-User: {NAME}\r\n".encode(),
    "latin-1": "X-Forwarded-User: José\r\n".encode("latin-1"),
    "several": f"Remote-User: {NAME}\r\nX-Auth-Request-Preferred-Username: {NAME}\r\n".encode(),
    "cookie": f"Cookie: name={NAME}\r\n".encode(),
    "every byte": b"X-Display-Name: " + bytes(range(0x80, 0x100)) + b"\r\n",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = artifacts.locate(tmp_path / "workspace")
    factories.make_run(workspace)
    return workspace


def shake_hands(address: str, headers: bytes) -> bytes:
    """Returns the status line of the answer to a websocket's handshake; empty if the connection is closed without one."""
    host, port = address.split(":")
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    )
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answer:
        connection.sendall(request.encode() + headers + b"\r\n")
        return answer.readline()


@contextmanager
def streamlit_run(workspace: Workspace) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    environment = {**os.environ, "MEDISYNC_WORKSPACE": str(workspace.root)}
    with dashboard_load.started(command, f"127.0.0.1:{port}", env=environment) as process:
        yield f"127.0.0.1:{port}", process


@pytest.mark.parametrize("how", ["medisync serve", "streamlit run"])
def test_a_name_in_any_script_may_stand_in_a_header_and_ctrl_c_ends_the_dashboard(
    workspace: Workspace, how: str
) -> None:
    served = dashboard_load.served(workspace.root) if how == "medisync serve" else streamlit_run(workspace)
    with served as (address, process):
        answers = {kind: shake_hands(address, headers) for kind, headers in HEADERS.items()}
        assert answers == dict.fromkeys(HEADERS, b"HTTP/1.1 101 Switching Protocols\r\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_cookies_of_16_kilobytes_are_answered(workspace: Workspace) -> None:
    with dashboard_load.served(workspace.root) as (address, _):
        cookies = b"Cookie: session=" + b"x" * 16_000 + b"\r\n"
        assert shake_hands(address, cookies) == b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize("port", [99999999, 65536, 0, -1])
def test_a_port_out_of_range_is_refused_in_one_sentence(
    workspace: Workspace, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--workspace", str(workspace.root), f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"medisync: --port: expected a whole number from 1 to 65535, got {port}\n"


def test_a_port_in_use_is_refused_in_one_sentence(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--workspace", str(workspace.root), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"medisync: --port: cannot listen at port {port} (Address already in use); stop the program that does, or choose"
        " another port\n"
    )


def test_a_privileged_port_is_refused_in_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)  # tests may run as root, who may listen anywhere
    assert main(["serve", "--workspace", str(workspace.root), "--port", "80"]) == 2
    assert "only the administrator of this machine may use port 80; choose one from 1024 on" in capsys.readouterr().err


@contextmanager
def nginx(folder: Path, server: str, address: str) -> Iterator[None]:
    """Runs nginx with a `server` block for the duration of the block."""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {paths} {server} }}"
    )
    command = [str(NGINX), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with dashboard_load.started(command, address, path="/"):
        yield


def shipped_settings(address: str, dashboard: str) -> str:
    """Returns deploy/nginx.conf for these addresses, without TLS."""
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    text, found = re.subn(r"ssl_certificate\w* .*;", "", text.replace("127.0.0.1:8501", dashboard))
    assert found == 2
    assert text.count("listen 443 ssl;") == 1
    return text.replace("listen 443 ssl;", f"listen {address};")


@pytest.mark.skipif(not NGINX, reason="no nginx: install Debian's `nginx-light`")
def test_page_websocket_and_upload_pass_through_nginx_with_the_settings_that_we_ship(
    workspace: Workspace, tmp_path: Path
) -> None:
    outside = f"127.0.0.2:{free_port()}"  # a browser's origin that is not one of the dashboard's own names
    (tmp_path / "nginx").mkdir()
    with (
        dashboard_load.served(workspace.root) as (dashboard, _),
        nginx(tmp_path / "nginx", shipped_settings(outside, dashboard), outside),
        dashboard_load.Session(outside) as session,
    ):
        assert "89.6" in session.open("").text
        uploader = session.open("prediction").uploader
        scan = save(
            tmp_path / "scan.png", np.random.default_rng(0).integers(0, 256, (1200, 1200), dtype=np.uint8)
        ).read_bytes()
        assert 1_000_000 < len(scan) < 25_000_000  # nginx's own limit is 1 MB
        session.upload(uploader, "scan.png", scan)


FORWARDS_THE_UPGRADE = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
)


@pytest.mark.skipif(not NGINX, reason="no nginx: install Debian's `nginx-light`")
def test_nginx_that_rewrites_the_host_is_refused_and_the_terminal_says_why(
    workspace: Workspace, tmp_path: Path
) -> None:
    outside, log = f"127.0.0.2:{free_port()}", tmp_path / "serve.log"
    (tmp_path / "nginx").mkdir()
    with log.open("w") as stream, dashboard_load.served(workspace.root, stream) as (dashboard, _):
        server = (
            f"server {{ listen {outside}; location / {{ proxy_pass http://{dashboard}; {FORWARDS_THE_UPGRADE} }} }}"
        )
        with nginx(tmp_path / "nginx", server, outside), pytest.raises(InvalidStatus) as refusal:
            dashboard_load.Session(outside)
    assert refusal.value.response.status_code == 403
    said = "Rejecting WebSocket connection with disallowed Origin or Host header"
    assert f"{said}: origin=http://{outside}, host={dashboard}" in log.read_text()
    assert said in (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
