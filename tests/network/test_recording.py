"""What is logged of a message and its answer, and how the seal reaches the server."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import recipes
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.errors import ArtifactError, DataError
from medisync.federation import client_app, codec, simulation
from medisync.federation.codec import PackingGrid, packing_client
from medisync.federation.messages import ARRAYS, CONFIG, METRICS, ROUND
from medisync.network.audit_log import START, AuditLog, Seal, keep_seal, read_seals, verify
from medisync.network.recording import MOST_FIELDS, AccountableGrid, recording
from medisync.network.run_request import REQUEST, RunRequest, read

REQUEST_OF_RUN = RunRequest(run="run-007", training=recipes.training(), federation=recipes.federation())
FILE_NAME = "/home/north/patients/Doe_John.png"


def exchange(folder: Path, answer: Callable[[Message], RecordDict], content: RecordDict) -> list[Message]:
    """Returns what the server gets for `content`, sent twice over both ends of the record, with packed messages."""
    app = ClientApp(mods=[recording(lambda _: AuditLog(folder / "log")), packing_client()])
    server, replies = ServerApp(), list[Message]()
    app.train()(client_app._reporting_errors(lambda message, _: answer(message)))

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        accountable = AccountableGrid(PackingGrid(grid, "float32"), REQUEST_OF_RUN, folder / "seals")
        accountable._names = {2: "North"}  # a network's nodes have names
        for _ in range(2):
            names = accountable.push_messages([Message(content, 2, "train")])
            replies.extend(accountable.pull_messages(names))

    simulation.run_apps(server, app, {2: {}})
    return replies


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log" / "audit-000001.jsonl").read_text().splitlines()]


def content() -> RecordDict:
    return RecordDict({ARRAYS: ArrayRecord({"w": torch.ones(2)}), CONFIG: ConfigRecord({ROUND: 3})})


def test_each_message_and_answer_is_a_line_and_the_server_keeps_the_seals(tmp_path: Path) -> None:
    def answer(message: Message) -> RecordDict:
        assert read(message.content) == REQUEST_OF_RUN
        return RecordDict({METRICS: MetricRecord({"loss": 0.5})})

    replies = exchange(tmp_path, answer, content())
    assert [set(reply.content) for reply in replies] == [{METRICS}, {METRICS}]  # the strict readers see no seal
    lines = entries(tmp_path)
    assert [line["event"] for line in lines] == ["in", "out", "in", "out"]
    travelled = {field["name"] for field in lines[0]["fields"]}
    assert {"block/arrays", "config/config", f"config/{REQUEST}"} <= travelled
    assert (lines[1]["round"], lines[1]["answer"], lines[1]["kind"]) == (3, "content", "train")
    seals = read_seals(tmp_path / "seals" / "north.jsonl")
    assert [seal.line for seal in seals] == [2, 4]
    assert verify(tmp_path / "log", seals) == seals[-1]


def test_a_field_is_logged_with_the_size_and_hash_of_what_travels(tmp_path: Path) -> None:
    exchange(tmp_path, lambda _: RecordDict({METRICS: MetricRecord({"loss": 0.5})}), content())
    (field,) = [each for each in entries(tmp_path)[1]["fields"] if each["name"].startswith("metric/")]
    block = MetricRecord({"loss": 0.5}).deflate()
    assert (field["bytes"], field["sha256"]) == (len(block), hashlib.sha256(block).hexdigest())


def test_an_error_reaches_the_server_without_its_seal_and_the_log_without_its_words(tmp_path: Path) -> None:
    def fail(_: Message) -> RecordDict:
        raise DataError(f"{FILE_NAME}: is damaged")

    replies = exchange(tmp_path, fail, content())
    assert [reply.error.reason for reply in replies] == [f"{FILE_NAME}: is damaged"] * 2
    assert entries(tmp_path)[1]["answer"] == "error"
    assert "Doe" not in (tmp_path / "log" / "audit-000001.jsonl").read_text()
    seals = read_seals(tmp_path / "seals" / "north.jsonl")
    assert verify(tmp_path / "log", seals) == seals[-1]


@pytest.mark.parametrize(
    ("error", "said"),
    [(ArtifactError("could not write weights/"), "could not write weights/"), (KeyError("x"), "KeyError: 'x'")],
)
def test_what_is_raised_on_the_way_is_logged_and_sealed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """The codec fails, as where the folder for weights cannot be written."""

    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(codec, "_open", fail)
    replies = exchange(tmp_path, lambda _: RecordDict(), content())
    assert [reply.error.reason for reply in replies] == [said] * 2
    assert [line["event"] for line in entries(tmp_path)] == ["in", "out", "in", "out"]
    seals = read_seals(tmp_path / "seals" / "north.jsonl")
    assert verify(tmp_path / "log", seals) == seals[-1]


def test_nothing_is_answered_that_cannot_be_logged(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder belongs")
    reached: list[Message] = []

    def answer(message: Message) -> RecordDict:
        reached.append(message)
        return RecordDict()

    replies = exchange(tmp_path, answer, content())
    assert all("could not write log/" in reply.error.reason for reply in replies)
    assert reached == []


def test_a_server_cannot_make_a_line_long(tmp_path: Path) -> None:
    arrays = {"x" * 10_000 + str(number): ConfigRecord({"a": 1}) for number in range(MOST_FIELDS + 5)}
    exchange(tmp_path, lambda _: RecordDict(), RecordDict({**content(), **arrays}))
    (first, *_) = entries(tmp_path)
    assert len(first["fields"]) == MOST_FIELDS
    assert first["more-fields"] >= 5 + len(content())
    assert len(json.dumps(first)) < 20_000


def test_a_file_that_holds_no_seals_is_refused(tmp_path: Path) -> None:
    keep_seal(tmp_path, "North", "run-001", Seal(0, START))
    (file,) = tmp_path.iterdir()
    assert [seal.line for seal in read_seals(file)] == [0]
    file.write_text("{}\n")
    with pytest.raises(ArtifactError, match=r"north\.jsonl: is not a file of seals"):
        read_seals(file)
