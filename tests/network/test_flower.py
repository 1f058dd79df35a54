"""The changes to Flower, the process that answers messages, and child processes."""

import asyncio
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from flwr.app import RecordDict
from flwr.supercore.inflatable import inflatable_utils
from httpcore._backends.sync import SyncStream
from starlette.responses import PlainTextResponse

from medisync.federation import messages
from medisync.network import flower, services
from medisync.network.flower import HospitalsOnly

ROOT = Path(__file__).parent.parent.parent
TIMEOUT = 600
"""Seconds; bounds a hang, not the speed of the machine."""


@pytest.mark.parametrize(
    ("peer", "path", "status"),
    [
        ("127.0.0.2", "/v1/control/start-run", 403),
        ("127.0.0.2", "/v1/runtime/pull-messages", 403),
        ("127.0.0.2", "/docs", 403),
        ("127.0.0.2", "/v1/fleet/pull-messages", 200),
        ("127.0.0.1", "/v1/control/start-run", 200),
    ],
)
def test_other_machines_may_send_only_the_requests_of_hospitals(peer: str, path: str, status: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "client": (peer, 50000), "headers": []}
    reached = HospitalsOnly(PlainTextResponse("reached"))
    with ThreadPoolExecutor() as elsewhere:  # the browser tests leave an event loop running in this thread
        elsewhere.submit(asyncio.run, reached(scope, None, send)).result()  # type: ignore[arg-type]
    assert sent[0]["status"] == status


class HalfSent:
    """A SuperLink's answers for two hospitals, one of which froze while it replied; messages hold what `ask` reads."""

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        return [f"to {message.metadata.dst_node_id}" for message in messages]

    def pull_messages(self, names: Iterable[str]) -> list[Any]:
        return [self._answer(name) for name in names]

    def _answer(self, name: str) -> Any:
        if name == "to 2":
            return answer(name, 2)
        try:
            inflatable_utils.pull_objects(["block"], self._unavailable)
        except inflatable_utils.ObjectPullError as error:
            return answer(name, 1, error=SimpleNamespace(reason=str(error)))

    def _unavailable(self, object_id: str) -> bytes:
        raise inflatable_utils.ObjectUnavailableError(object_id)


def answer(name: str, source: int, **error: Any) -> Any:
    about = SimpleNamespace(reply_to_message_id=name, src_node_id=source)
    return SimpleNamespace(metadata=about, has_error=lambda: bool(error), has_content=lambda: False, **error)


def question(node: int) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(dst_node_id=node), content=RecordDict())


def test_a_hospital_that_freezes_while_it_replies_is_late_and_the_next_one_is_heard() -> None:
    grid: Any = HalfSent()
    flower.keep_deadline(grid, 0.5)
    found = messages.ask(grid, [question(5), question(2)], {5: "Frozen", 2: "Heard"}, 0.5)
    assert [each.hospital for each in found.replies] == ["Heard"]
    assert [(each.hospital, each.reason) for each in found.silent] == [("Frozen", "did not answer within 0.5 s")]


@contextmanager
def in_background(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs Python as in the background of a script, with SIGINT ignored; kills it at the end if it still runs."""
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-u", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


SERVE = """
import select, sys
from medisync.network import worker
worker.serve(sys.argv[1], bytes(32), lambda: not select.select([sys.stdin], [], [], 0)[0])
"""
"""Answers the messages of a node; the end of standard input stands for the end of the node."""


def test_a_hospital_stops_asking_a_node_that_has_ended_for_work() -> None:
    ending = socket.create_server(("127.0.0.1", 0))
    with in_background("-c", SERVE, f"127.0.0.1:{ending.getsockname()[1]}") as hospital:
        with ending:
            for _ in range(2):
                ending.accept()[0].close()  # it asked once, and asks again
        hospital.communicate(timeout=TIMEOUT)
    assert hospital.returncode == 0


def test_a_worker_that_dies_is_replaced() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as node,
        in_background("-c", SERVE, f"127.0.0.1:{node.getsockname()[1]}") as hospital,
    ):
        node.accept()[0].close()
        (worker,) = psutil.Process(hospital.pid).children()
        worker.kill()
        assert hospital.stdout
        assert any("ended (exit code -9)" in line for line in hospital.stdout)  # reads up to this line
        forget_connections(node)
        node.accept()[0].close()  # another worker asks


def forget_connections(server: socket.socket) -> None:
    """Takes the connections that processes opened before they died."""
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
    server.setblocking(True)


def test_a_request_is_sent_in_pieces_without_copies_of_the_rest() -> None:
    flower.send_without_copies()
    body, sent = bytes(range(10)), list[memoryview]()

    def send(rest: memoryview) -> int:
        sent.append(rest)
        return 4  # as TLS takes one record at a time

    SyncStream(SimpleNamespace(settimeout=lambda _: None, send=send)).write(body)  # type: ignore[arg-type]
    assert [bytes(rest) for rest in sent] == [body, body[4:], body[8:]]
    assert all(rest.obj is body for rest in sent)


def test_a_service_ends_with_the_command_that_started_it() -> None:
    with in_background("-m", services.PARENT_WATCH, "http.server", "0", "--bind", "127.0.0.1") as service:
        assert service.stdout
        port = service.stdout.readline().split("port ")[1].split()[0]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT).close()  # it has started
        said, _ = service.communicate(timeout=TIMEOUT)
    assert "Keyboard interrupt received" in said
