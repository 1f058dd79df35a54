"""Federations over TLS on this machine, with real services."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from process_list import running_with

from medisync import notebook
from medisync.data import audit, splits
from medisync.errors import FederationError
from medisync.federation import simulation
from medisync.network import credentials, services, settings, setup
from medisync.network.settings import ServerSettings
from medisync.network.superlink import CONNECTION, ask_flower, superlink
from medisync.phantom.hospitals import write_hospitals
from medisync.training.dataset import open_hospitals
from medisync.workspace import artifacts

HOSPITALS = notebook.configuration().hospitals


def test_an_unreachable_server_is_named_with_what_to_do(tmp_path: Path) -> None:
    credentials.make_authority(tmp_path)
    address = f"127.0.0.1:{services.free_port()}"
    with pytest.raises(
        FederationError, match=rf"{address}: the server cannot be reached .*federation server` is running"
    ):
        services.require_reachable(address, tmp_path / "ca.crt")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FederationError, match=rf"{address}: cannot listen there"):
            services.require_free(address)


def test_a_restarted_server_knows_the_hospitals_in_its_settings_and_no_others(tmp_path: Path) -> None:
    file = setup.make(tmp_path, f"127.0.0.1:{services.free_port()}", HOSPITALS).server
    first = settings.read(ServerSettings, file)
    for server in (first, first.model_copy(update={"hospitals": first.hospitals[:2]})):
        with superlink(server):
            nodes = ask_flower(server, "supernode", "list", CONNECTION, "--format", "json")["nodes"]
        assert len(nodes) == len(server.hospitals)  # Flower lists them without their names


def test_one_key_for_two_hospitals_is_refused(tmp_path: Path) -> None:
    file = setup.make(tmp_path, f"127.0.0.1:{services.free_port()}", HOSPITALS).server
    server = settings.read(ServerSettings, file)
    twin = server.hospitals[1].model_copy(update={"public_key": server.hospitals[0].public_key})
    twins = server.model_copy(update={"hospitals": (server.hospitals[0], twin)})
    with pytest.raises(FederationError, match="Public key already in use"), superlink(twins):
        pass


TINY = {"IMAGE_SIZE": 32, "IMAGE_SIZE_SCHEDULE": "constant", "STEPS_PER_EPOCH": 8, "LOCAL_EPOCHS": 0.5, "DEVICE": "cpu"}
ONE_A_ROUND = {**TINY, "ROUNDS": 2, "PATIENCE": 2, "VALIDATE_EVERY": 1}
WHOLE = {**ONE_A_ROUND, "TRANSPORT": "float32", "ADAM_MOMENTS": "fresh"}
"""Without Adam's moments, which whole would take a machine's memory beside other tests."""

COMPACT = {**ONE_A_ROUND, "TRANSPORT": "compact", "ADAM_MOMENTS": "shared"}

Networked = tuple[artifacts.Workspace, dict[str, Any]]
"""A workspace with a run, and its parameters."""


@pytest.fixture(scope="module", params=[WHOLE, COMPACT], ids=["whole", "compact"])
def networked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Networked:
    """Returns a workspace of phantom hospitals with the run that `medisync federation local` made of them."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("networked"))
    write_hospitals(workspace.dataset, seed=0, scale=0.25)
    parameters = [word for name, value in request.param.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "medisync", "federation", "local", "--workspace", str(workspace.root), *parameters]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(workspace.root.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run-001: test accuracy" in done.stdout
    return workspace, request.param


def test_the_network_computes_what_one_process_computes_to_the_bit(networked: Networked) -> None:
    """Compares four process trees, over TLS with keys, with the same apps in this process: round by round."""
    workspace, parameters = networked
    configuration = notebook.configuration(parameters)
    audited = audit.audit_hospitals(configuration.hospitals, workspace.dataset)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    hospitals = open_hospitals(split, workspace.dataset, 32, workspace.cache)
    outcome = simulation.simulate(hospitals, configuration)
    history = artifacts.read(workspace.artifacts / "run-001", artifacts.HISTORY)
    assert len(history) == 2
    assert [entry.weights_sha256 for entry in history] == [entry.weights_sha256 for entry in outcome.history]
    assert [entry.val_loss for entry in history] == [entry.val_loss for entry in outcome.history]
    stored = torch.load(workspace.models / artifacts.MODEL, weights_only=True)
    assert all(torch.equal(stored[key].to(tensor.dtype), tensor) for key, tensor in outcome.state.items())


def test_a_networked_run_reads_like_any_other_and_lists_no_images(networked: Networked) -> None:
    workspace, parameters = networked
    (run,) = artifacts.list_runs(workspace)
    assert run.record is not None, run.problem
    assert run.record.transport == "over the network"
    artifacts.verify(workspace, run.name)
    history = artifacts.read(run.folder, artifacts.HISTORY)
    assert all(entry.hospitals.keys() == {each.name for each in HOSPITALS} for entry in history)
    sizes = [scores.bytes_up for entry in history for scores in entry.hospitals.values()]
    assert max(sizes) < 17e6 if parameters is COMPACT else min(sizes) > 40e6
    assert artifacts.read(run.folder, artifacts.AUDIT).images == []
    attacked = artifacts.read(run.folder, artifacts.MEMBERSHIP)
    assert attacked.attacks == []
    assert list(attacked.not_attacked) == sorted(artifacts.read(run.folder, artifacts.STATS))
    written = "".join(file.read_text(errors="replace") for file in run.folder.glob("*.json"))
    assert ".jpg" not in written
    assert str(workspace.root) not in written


def test_a_federation_on_one_machine_leaves_no_process_behind(networked: Networked) -> None:
    workspace, _ = networked
    assert not running_with(workspace.root.parent)  # keys and settings were there
    assert json.loads((workspace.artifacts / "run-001" / artifacts.RUN).read_text())["status"] == "completed"
