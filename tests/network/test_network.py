"""The federation over a network: settings, keys, what may travel, and a real one over TLS on this machine."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flwr.app import RecordDict
from flwr.supercore.inflatable import inflatable_utils
from httpcore._backends.sync import SyncStream
from starlette.responses import PlainTextResponse

from medisync import notebook
from medisync.cli.main import main
from medisync.data import audit, splits
from medisync.errors import ConfigError, DataError, FederationError, UpdateError
from medisync.federation import messages, registration, simulation
from medisync.network import credentials, flower, node, processes, settings, setup
from medisync.network.flower import HospitalsOnly
from medisync.network.settings import HospitalSettings, ServerSettings
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import LABELS, DatasetStats, HospitalAudit, Introduction, Location
from medisync.training.dataset import open_hospitals
from medisync.version import software
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent.parent
HOSPITALS = notebook.configuration().hospitals


def test_init_gives_every_side_what_it_needs_and_private_keys_to_nobody_else(tmp_path: Path) -> None:
    made = setup.make(tmp_path / "federation", "federation.example.org:9443", HOSPITALS, tmp_path)
    server = settings.read(ServerSettings, made.server)
    assert server.listen == "0.0.0.0:9443"
    assert [member.name for member in server.hospitals] == [each.name for each in HOSPITALS]
    assert all(member.public_key.read_bytes().startswith(b"ecdsa-sha2-nistp384") for member in server.hospitals)
    keys = sorted((tmp_path / "federation").rglob("*.key"))
    assert len(keys) == 2 + len(HOSPITALS)
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    for name, file in made.hospitals.items():
        hospital = settings.read(HospitalSettings, file)
        assert (hospital.name, hospital.server) == (name, "federation.example.org:9443")
        assert hospital.as_hospital().class_map == next(each for each in HOSPITALS if each.name == name).class_map
        others = [other for other in made.hospitals if other != name]
        assert not any(other in file.read_text(encoding="utf-8") for other in others)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    setup.make(tmp_path, "127.0.0.1:9443", HOSPITALS)
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(ConfigError, match="is there already and is not replaced"):
        setup.make(tmp_path, "127.0.0.1:9443", HOSPITALS)
    assert (tmp_path / "ca.key").read_bytes() == before


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    credentials.make_hospital_keys(tmp_path / "hospital.key", tmp_path / "hospital.pub")
    credentials.require_private(tmp_path / "hospital.key")
    (tmp_path / "hospital.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"others may read this private key \(mode 644\); run chmod 600 hospital.key"):
        credentials.require_private(tmp_path / "hospital.key")


def test_an_expired_certificate_is_refused_with_its_dates(tmp_path: Path) -> None:
    credentials.make_authority(tmp_path, now=datetime.now(UTC) - timedelta(days=731))
    with pytest.raises(ConfigError, match=r"is valid from .* only, and not today"):
        credentials.require_valid(tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("server = 'nowhere'", "hospital.toml: server:"),
        ("colour = 'blue'", "hospital.toml: colour: Extra inputs are not permitted"),
        ("class_map = { tumour = 'cancer' }", "hospital.toml: class_map.tumour:"),
        ("name = ", "hospital.toml: is no TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_file_and_field(tmp_path: Path, line: str, said: str) -> None:
    right = {
        "name": "name = 'North'",
        "server": "server = '127.0.0.1:1'",
        "dataset": "dataset = 'scans'",
        "location": "location = { lat = 1.0, lon = 2.0 }",
        "class_map": "class_map = { glioma = 'glioma' }",
    }
    file = tmp_path / "hospital.toml"
    file.write_text("\n".join(right.values()))
    assert settings.read(HospitalSettings, file).dataset == tmp_path / "scans"
    file.write_text("\n".join({**right, line.split(" ")[0]: line}.values()))
    with pytest.raises(ConfigError) as error:
        settings.read(HospitalSettings, file)
    assert str(error.value).startswith(said)


def introduction(**changes: Any) -> Introduction:
    counts = dict.fromkeys(LABELS, 5)
    stats = DatasetStats(total=20, class_distribution=counts, location=Location(lat=0, lon=0))
    names = ("folders", "notes")
    numbers = ("total", "unresolved", "unreadable", "quarantined", "patients", "exact_copies", "near_copies")
    tables = ("skipped", "sizes", "modes")
    found = HospitalAudit(
        path="",
        class_distribution=counts,
        **dict.fromkeys(numbers, 0),  # type: ignore[arg-type]
        **{name: [] for name in names},  # type: ignore[arg-type]
        **{name: {} for name in tables},  # type: ignore[arg-type]
    )
    right = {"hospital": "North", "version": software(), "labels": list(LABELS)}
    return Introduction(**{**right, "synthetic": True, "dataset_id": "d", "stats": stats, "audit": found, **changes})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hospital": "South"}, "its key is registered for North, but it calls itself South"),
        ({"version": "0.0.9 (code 000000000000)"}, "it runs medisync 0.0.9 (code 000000000000), this server"),
        ({"labels": ["glioma", "notumor", "meningioma", "pituitary"]}, "its classes are glioma, notumor"),
    ],
)
def test_who_computes_otherwise_is_not_let_in(change: dict[str, Any], said: str) -> None:
    registration.require_fit(introduction(), "North")
    with pytest.raises(UpdateError) as error:
        registration.require_fit(introduction(**change), "North")
    assert str(error.value).startswith(said)


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
def test_other_machines_reach_nothing_but_what_hospitals_ask(peer: str, path: str, status: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "client": (peer, 50000), "headers": []}
    reached = HospitalsOnly(PlainTextResponse("reached"))
    with ThreadPoolExecutor() as elsewhere:  # the browser tests leave an event loop running in this thread
        elsewhere.submit(asyncio.run, reached(scope, None, send)).result()  # type: ignore[arg-type]
    assert sent[0]["status"] == status


def test_a_server_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    credentials.make_authority(tmp_path)
    address = f"127.0.0.1:{processes.free_port()}"
    with pytest.raises(FederationError, match=rf"{address}: the server cannot be reached .*federation server` running"):
        processes.require_reachable(address, tmp_path / "ca.crt")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FederationError, match=rf"{address}: cannot be listened at"):
            processes.require_free(address)


def test_a_missing_key_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = setup.make(tmp_path, f"127.0.0.1:{processes.free_port()}", HOSPITALS, tmp_path)
    file = made.hospitals[HOSPITALS[0].name]
    (file.parent / "hospital.key").unlink()
    assert main(["federation", "hospital", str(file)]) == 2
    assert "there is no such private key" in capsys.readouterr().err


def test_a_missing_dataset_is_one_sentence(tmp_path: Path) -> None:
    made = setup.make(tmp_path, f"127.0.0.1:{processes.free_port()}", HOSPITALS, tmp_path / "nowhere")
    hospital = settings.read(HospitalSettings, made.hospitals[HOSPITALS[0].name])
    with pytest.raises(
        DataError, match=r"nowhere: there is no such dataset folder; correct `dataset` in hospital.toml"
    ):
        node.prepare(hospital)


class HalfSent:
    """As a SuperLink answers for hospitals one of which froze while it sent its reply; of messages, what `ask` reads."""

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


def test_who_freezes_while_its_reply_is_on_its_way_is_late_and_the_next_one_is_heard() -> None:
    simulation: Any = HalfSent()
    flower.keep_deadline(simulation, 0.5)
    found = messages.ask(simulation, [question(5), question(2)], {5: "Frozen", 2: "Heard"}, 0.5)
    assert [each.hospital for each in found.replies] == ["Heard"]
    assert [(each.hospital, each.reason) for each in found.silent] == [("Frozen", "did not answer within 0.5 s")]


@contextmanager
def in_background(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Python as a script's background has it: SIGINT ignored. Killed where it does not end by itself."""
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


def test_a_hospital_stops_asking_a_node_that_has_ended_for_work() -> None:
    """The end of standard input stands for the end of the node."""
    code = "import sys; from medisync.network import flower; flower.serve_node(sys.argv[1], bytes(32), sys.stdin.read)"
    ending = socket.create_server(("127.0.0.1", 0))
    with in_background("-c", code, f"127.0.0.1:{ending.getsockname()[1]}") as hospital:
        with ending:
            for _ in range(2):
                ending.accept()[0].close()  # it asked, and asks again
        hospital.communicate(timeout=60)
    assert hospital.returncode == 0


def test_a_request_is_sent_piece_by_piece_without_copies_of_what_is_left() -> None:
    flower.send_without_copies()
    body, sent = bytes(range(10)), list[memoryview]()

    def send(rest: memoryview) -> int:
        sent.append(rest)
        return 4  # as TLS takes a record at a time

    SyncStream(SimpleNamespace(settimeout=lambda _: None, send=send)).write(body)  # type: ignore[arg-type]
    assert [bytes(rest) for rest in sent] == [body, body[4:], body[8:]]
    assert all(rest.obj is body for rest in sent)


def test_a_service_ends_with_the_command_that_started_it() -> None:
    with in_background("-m", processes.PARENT_WATCH, "http.server", "0", "--bind", "127.0.0.1") as service:
        assert service.stdout
        port = service.stdout.readline().split("port ")[1].split()[0]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).close()  # it is past its start
        said, _ = service.communicate(timeout=60)
    assert "Keyboard interrupt received" in said


def test_a_server_started_again_knows_its_hospitals_and_no_longer_one_that_was_taken_out(tmp_path: Path) -> None:
    file = setup.make(tmp_path, f"127.0.0.1:{processes.free_port()}", HOSPITALS).server
    first = settings.read(ServerSettings, file)
    for server in (first, first.model_copy(update={"hospitals": first.hospitals[:2]})):
        with processes.superlink(server):
            nodes = processes.ask_flower(server, "supernode", "list", processes.CONNECTION, "--format", "json")["nodes"]
        assert len(nodes) == len(server.hospitals)  # Flower lists them without their names


def test_one_key_for_two_hospitals_is_refused(tmp_path: Path) -> None:
    file = setup.make(tmp_path, f"127.0.0.1:{processes.free_port()}", HOSPITALS).server
    server = settings.read(ServerSettings, file)
    twin = server.hospitals[1].model_copy(update={"public_key": server.hospitals[0].public_key})
    twins = server.model_copy(update={"hospitals": (server.hospitals[0], twin)})
    with pytest.raises(FederationError, match="Public key already in use"), processes.superlink(twins):
        pass


TINY = {"IMAGE_SIZE": 32, "IMAGE_SIZE_SCHEDULE": "constant", "STEPS_PER_EPOCH": 8, "LOCAL_EPOCHS": 0.5, "DEVICE": "cpu"}
ORDER = {**TINY, "ROUNDS": 2, "PATIENCE": 2, "VALIDATE_EVERY": 1, "ADAM_MOMENTS": "fresh"}
"""Without the moments, which would take a whole machine's memory beside the other tests; `test_packing.py` has them."""


@pytest.fixture(scope="module")
def networked(tmp_path_factory: pytest.TempPathFactory) -> artifacts.Workspace:
    """A workspace of phantom hospitals and the run that `medisync federation local` made of them."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("networked"))
    write_hospitals(workspace.dataset, seed=0, scale=0.25)
    parameters = [word for name, value in ORDER.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "medisync", "federation", "local", "--workspace", str(workspace.root), *parameters]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(workspace.root.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run-001: test accuracy" in done.stdout
    return workspace


def test_the_network_computes_what_one_process_computes_to_the_bit(networked: artifacts.Workspace) -> None:
    """Three process trees over TLS, node keys on, against the same apps in this process: round by round."""
    configuration = notebook.configuration(ORDER)
    audited = audit.audit_hospitals(configuration.hospitals, networked.dataset)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    hospitals = open_hospitals(split, networked.dataset, 32, networked.cache)
    outcome = simulation.simulate(hospitals, configuration)
    history = artifacts.read(networked.artifacts / "run-001", artifacts.HISTORY)
    assert len(history) == 2
    assert [entry.weights_sha256 for entry in history] == [entry.weights_sha256 for entry in outcome.history]
    assert [entry.val_loss for entry in history] == [entry.val_loss for entry in outcome.history]
    stored = torch.load(networked.models / artifacts.MODEL, weights_only=True)
    assert all(torch.equal(stored[key].to(tensor.dtype), tensor) for key, tensor in outcome.state.items())


def test_a_networked_run_reads_like_any_other_and_holds_no_list_of_images(networked: artifacts.Workspace) -> None:
    (run,) = artifacts.list_runs(networked)
    assert run.record is not None, run.problem
    assert run.record.transport == "over the network"
    artifacts.verify(networked, run.name)
    history = artifacts.read(run.folder, artifacts.HISTORY)
    assert all(entry.hospitals.keys() == {each.name for each in HOSPITALS} for entry in history)
    assert all(scores.bytes_up > 40e6 for entry in history for scores in entry.hospitals.values())
    assert artifacts.read(run.folder, artifacts.AUDIT).images == []
    written = "".join(file.read_text(errors="replace") for file in run.folder.glob("*.json"))
    assert ".jpg" not in written
    assert str(networked.root) not in written


def test_a_federation_on_one_machine_leaves_no_process_behind(networked: artifacts.Workspace) -> None:
    running = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    root = networked.root.parent  # the try kept its keys and settings there
    assert not [command for command in running if str(root) in command]
    assert json.loads((networked.artifacts / "run-001" / artifacts.RUN).read_text())["status"] == "completed"
