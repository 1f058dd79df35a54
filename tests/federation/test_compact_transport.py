"""The transport "compact": who is sent a change and who the whole weights, and how the server reads what comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import SETTINGS, hospital, plan_of, simulate
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.federation import codec, simulation
from medisync.federation.broadcast import Broadcast, announce
from medisync.federation.codec import MemoryWeightCache, PackingGrid
from medisync.federation.messages import ARRAYS, HAND_ON, Exchange, ask, to_values
from medisync.network.weight_cache import FolderWeightCache

SIZE = 50_000
NAMES = {2: "North", 3: "South"}
SHARED = SETTINGS.model_copy(update={"adam_moments": "shared"})


def broadcasts(rounds: int) -> list[Broadcast]:
    """Returns random weights and what they become in every round."""
    generator = np.random.default_rng(0)
    found = [Broadcast(ArrayRecord({"w": torch.zeros(SIZE)}))]
    for _ in range(rounds - 1):
        change = torch.from_numpy(generator.standard_normal(SIZE).astype(np.float32))
        meant = ArrayRecord({"w": torch.from_numpy(found[-1].arrays["w"].numpy()) + change})
        found.append(announce(found[-1], meant, plan_of(0)))
    return found


def exchange(
    asked: list[tuple[Broadcast, list[int]]],
    caches: dict[int, codec.WeightCache],
    before: Callable[[int], None] = lambda position: None,
    answer: Callable[[torch.Tensor], torch.Tensor] = lambda weights: weights + 1,
) -> tuple[list[Exchange], dict[int, list[torch.Tensor]]]:
    """Asks nodes to train from broadcasts; returns the exchanges, and the weights that each node saw."""
    seen: dict[int, list[torch.Tensor]] = {node: [] for node in NAMES}
    exchanges: list[Exchange] = []
    client, server = ClientApp(mods=[codec.packing_client(lambda context: caches[context.node_id])]), ServerApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        weights = message.content.array_records[ARRAYS].to_torch_state_dict()["w"]
        seen[context.node_id].append(weights)
        return Message(RecordDict({ARRAYS: ArrayRecord({"w": answer(weights)})}), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        grid = PackingGrid(inner, "compact")
        for position, (model, nodes) in enumerate(asked):
            before(position)
            content = model.to_content(ConfigRecord({HAND_ON: False}))
            exchanges.append(ask(grid, [Message(content, node, "train") for node in nodes], NAMES, 5))

    simulation.run_apps(server, client, {node: {} for node in NAMES})
    return exchanges, seen


def folders(path: Path) -> dict[int, codec.WeightCache]:
    return {node: FolderWeightCache(path / str(node)) for node in NAMES}


def sent_to(exchanges: list[Exchange], name: str) -> list[str]:
    """Returns how much of the weights every message held."""

    def kind(size: int) -> str:
        return "all" if size > 4 * SIZE else "change" if size > SIZE / 3 else "name"

    return [kind(each.sent[name]) for each in exchanges if name in each.sent]


def test_the_weights_travel_once_and_then_their_changes(tmp_path: Path) -> None:
    models = broadcasts(3)
    asked = [(model, [2, 3]) for model in (models[0], models[1], models[1], models[2])]
    exchanges, seen = exchange(asked, folders(tmp_path))
    for node, name in NAMES.items():
        assert sent_to(exchanges, name) == ["all", "change", "name", "change"]
        for weights, (model, _) in zip(seen[node], asked, strict=True):
            assert np.array_equal(weights.numpy(), model.arrays["w"].numpy())
    assert all(each.received["North"] < SIZE for each in exchanges)


def test_a_hospital_that_missed_a_round_is_sent_all_weights(tmp_path: Path) -> None:
    models = broadcasts(4)
    asked = [(models[0], [2, 3]), (models[1], [2]), (models[2], [2, 3]), (models[3], [2, 3])]
    exchanges, seen = exchange(asked, folders(tmp_path))
    assert sent_to(exchanges, "North") == ["all", "change", "change", "change"]
    assert sent_to(exchanges, "South") == ["all", "all", "change"]
    assert np.array_equal(seen[3][-1].numpy(), models[3].arrays["w"].numpy())


@pytest.mark.parametrize("harm", ["lost", "cut", "spoilt"])
def test_a_hospital_without_its_weights_says_so_and_is_sent_them_next_time(harm: str, tmp_path: Path) -> None:
    def do_harm(position: int) -> None:
        for file in (tmp_path / "2").iterdir() if position == 1 else ():
            content = file.read_bytes()
            spoilt = content[:-1] + bytes([content[-1] ^ 64])
            file.unlink() if harm == "lost" else file.write_bytes(spoilt if harm == "spoilt" else content[:-1])

    models = broadcasts(3)
    exchanges, seen = exchange([(model, [2, 3]) for model in models], folders(tmp_path), do_harm)
    (north,) = (reply for reply in exchanges[1].replies if reply.hospital == "North")
    assert "the weights that it" in north.error
    assert sent_to(exchanges, "North") == ["all", "change", "all"]
    assert sent_to(exchanges, "South") == ["all", "change", "change"]
    assert np.array_equal(seen[2][-1].numpy(), models[2].arrays["w"].numpy())


def test_the_server_reads_weights_that_are_right_in_the_mean_and_other_ones_from_every_hospital(tmp_path: Path) -> None:
    """All hospitals answer 0.3 of a step; the draw follows from their weights, so one that differs is rounded apart."""
    steps = torch.full((SIZE,), 0.3)
    steps[::512] = 7.0
    (whole,), _ = exchange([(broadcasts(1)[0], [2, 3])], folders(tmp_path), answer=lambda weights: weights + steps)
    north, south = (to_values(reply.content.array_records[ARRAYS])["w"] for reply in whole.replies)
    assert set(north.tolist()) == {0.0, 1.0, 7.0}
    assert north[1:512].mean() == pytest.approx(0.3, abs=0.1)
    assert np.array_equal(north, south)
    other, _ = exchange([(broadcasts(1)[0], [2])], folders(tmp_path), answer=lambda weights: weights + steps * 0.999)
    assert not np.array_equal(to_values(other[0].replies[0].content.array_records[ARRAYS])["w"] > 0.5, north > 0.5)


def test_a_change_that_cannot_be_read_is_left_for_update_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec.changes, "encode", lambda *_, **__: b"no change")
    (only,), _ = exchange([(broadcasts(1)[0], [2])], dict.fromkeys(NAMES, MemoryWeightCache()))
    assert set(only.replies[0].content) == {codec.PACKED}


class Noting(MemoryWeightCache):
    """Remembers the names under which it was to keep something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def put(self, name: str, block: bytes) -> None:
        super().put(name, block)
        self.names.append(name)


def answer_to(parcel: dict[str, Any], reply: dict[str, Any]) -> tuple[Noting, RecordDict | str]:
    """Returns a node's cache after a message with these parts, and what the server reads of a reply with these."""
    cache, found = Noting(), list[RecordDict | str]()
    client, server = ClientApp(mods=[codec.packing_client(lambda context: cache)]), ServerApp()

    @client.query()
    def query(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        grid = PackingGrid(inner, "compact")
        (name,) = grid.push_messages([Message(RecordDict(), 2, "query")])
        question = inner._questions[name]  # type: ignore[attr-defined]
        question.content.config_records[codec.PACKED].update(parcel)
        pull = inner.pull_messages

        def tamper(names: Any) -> Any:
            for message in pull(names):
                if message.has_content():
                    message.content.config_records[codec.PACKED].update(reply)
                yield message

        vars(inner)["pull_messages"] = tamper
        (message,) = grid.pull_messages([name])
        found.append(message.content if message.has_content() else message.error.reason)

    simulation.run_apps(server, client, {2: {}})
    return cache, found[0]


def test_a_message_without_weights_passes_a_node_with_a_cache() -> None:
    cache, content = answer_to({}, {})
    assert (cache.names, content) == ([], RecordDict())


@pytest.mark.parametrize("name", ["../outside", "a" * 63, "A" * 64, "a" * 64 + "/x"])
def test_a_node_keeps_nothing_under_a_name_that_is_no_sha_256(name: str) -> None:
    cache, error = answer_to({codec.NAME: name, codec.WEIGHTS: b"weights"}, {})
    assert cache.names == []
    assert "expected a SHA-256" in str(error)


@pytest.mark.parametrize("base", ["", "other", 7])
def test_a_change_of_weights_that_the_server_did_not_send_is_not_read(base: object) -> None:
    _, content = answer_to({}, {codec.DIFFERENCE: b"change", codec.BASE: base})
    assert content == RecordDict()


@pytest.mark.parametrize("settings", [SETTINGS, SHARED], ids=["fresh", "shared"])
def test_nodes_with_folders_of_their_own_compute_what_a_simulation_computes(
    settings: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation keeps one copy of the weights in memory; over a network every node keeps its own, on disk."""
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3)}
    options = {"transport": "compact", "validate_every": 2}
    together = simulate(hospitals, 3, settings, **options)
    caches = folders(tmp_path)

    def with_folders(find_cache: object) -> object:
        return packing_client(lambda context: caches[context.node_id])

    packing_client = codec.packing_client
    monkeypatch.setattr(codec, "packing_client", with_folders)
    apart = simulate(hospitals, 3, settings, **options)
    for one, other in zip(together.history, apart.history, strict=True):
        assert one.weights_sha256 == other.weights_sha256
        assert {name: (each.bytes_down, each.bytes_up) for name, each in one.hospitals.items()} == {
            name: (each.bytes_down, each.bytes_up) for name, each in other.hospitals.items()
        }
    assert all(torch.equal(together.state[key], apart.state[key]) for key in together.state)
    assert together.history[1].hospitals["North"].bytes_up < 1.5 * 11.2e6
