"""A hospital's app with its mods, on the policy.toml that init writes: who waits, who is told what, what is on record."""

from pathlib import Path

import pytest
import recipes
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from medisync.cli.main import main
from medisync.federation import simulation
from medisync.federation.codec import PackingGrid
from medisync.federation.registration import HELLO, INTRODUCTION
from medisync.network import apps, audit_log, loopback, node, settings
from medisync.network.policy import TEMPLATE, beside
from medisync.network.recording import AccountableGrid
from medisync.network.run_request import RunRequest
from medisync.network.settings import HospitalSettings
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import Introduction
from medisync.workspace import artifacts

REQUEST = RunRequest(
    run="run-001",
    training=recipes.training(image_size=32, normalisation="group"),
    federation=recipes.federation(normalisation="group"),
)


def greeted(file: Path, seals: Path) -> Message:
    """Returns what the server gets when it asks the hospital to introduce itself."""
    server, replies = ServerApp(), list[Message]()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        accountable = AccountableGrid(PackingGrid(grid, "float32"), REQUEST, seals)
        accountable._names = {2: "North"}  # a network's nodes have names
        names = accountable.push_messages([Message(RecordDict(), 2, f"query.{HELLO}")])
        replies.extend(accountable.pull_messages(names))

    simulation.run_apps(server, apps.client, {2: {"hospital": str(file)}})
    return replies[0]


def test_under_the_strict_defaults_a_hospital_waits_and_then_tells_no_small_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = artifacts.locate(tmp_path)
    write_hospitals(workspace.dataset, seed=0, scale=0.1)
    file = next(iter(loopback.prepare(tmp_path / "federation", workspace, {}).hospitals.values()))
    beside(file).write_text(TEMPLATE.replace("fewest_images = 100", "fewest_images = 1"), encoding="utf-8")
    own = node.prepare(settings.read(HospitalSettings, file))
    waits = greeted(file, tmp_path / "seals")
    assert waits.error.reason == (
        f"its policy refuses this (approval): the run {REQUEST.short_name} waits for approval by its administrator"
    )
    assert main(["federation", "approve", REQUEST.short_name[:6], str(file)]) == 0
    assert "approved:\n" in capsys.readouterr().out
    reply = greeted(file, tmp_path / "seals")
    told = Introduction.model_validate_json(str(reply.content.config_records[INTRODUCTION]["json"]))
    small = [n for counts in own.stats.splits.values() for n in counts.values() if 0 < n < 10]
    assert small  # there is something to leave out
    counts = [n for parts in told.stats.splits.values() for n in parts.values()]
    assert all(n == 0 or n >= 10 for n in counts)
    assert told.stats.total == sum(counts)
    assert "fewer than 10" in told.audit.notes[-1]
    seals = audit_log.read_seals(tmp_path / "seals" / "north.jsonl")
    assert [seal.line for seal in seals] == [3, 7]  # in, decision, out; approved; in, decision, out
    assert audit_log.verify(settings.read(HospitalSettings, file).audit_log, seals) == seals[-1]
