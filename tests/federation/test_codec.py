"""The packed form of messages: one block of weights, sent once, in full or half precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.federation import codec, simulation
from medisync.federation.codec import PackingGrid
from medisync.federation.messages import ARRAYS, Participants, ask
from medisync.network.weight_cache import FolderWeightCache

State = dict[str, torch.Tensor]


def test_weights_travel_as_one_block_and_come_out_the_same() -> None:
    state = {"w": torch.tensor([[1.5, -2.0]]), "batches": torch.tensor(7), "d": torch.ones(3, dtype=torch.float64)}
    content = RecordDict({ARRAYS: ArrayRecord(state), "config": ConfigRecord({"round": 3})})
    packed = codec.pack(content)
    assert (len(packed), len(packed.config_records), packed.array_records) == (1, 1, {})
    back = codec.unpack(packed)
    assert back.config_records["config"]["round"] == 3
    for key, tensor in back.array_records[ARRAYS].to_torch_state_dict().items():
        assert torch.equal(tensor, state[key])
        assert (tensor.dtype, tensor.shape) == (state[key].dtype, state[key].shape)


def test_a_damaged_message_is_left_for_update_validation_to_refuse() -> None:
    for kind in (codec.BLOCK, codec.CONFIGS, codec.METRICS):
        for value in (b"no such thing", b"", "words", 7):
            damaged = RecordDict({codec.PACKED: ConfigRecord({kind + ARRAYS: value})})
            assert set(codec.unpack(damaged)) == {codec.PACKED}


def test_half_precision_rounds_weights_and_nothing_else() -> None:
    """1/3 becomes 0.33325195; a variance beyond half precision's range, and a tiny moment, stay as they are."""
    whole = {"w": 1 / 3, "bn.running_var": 1e6, "adam.second.w": 1e-11}
    content = RecordDict({ARRAYS: ArrayRecord({key: torch.tensor([value]) for key, value in whole.items()})})
    back = codec.unpack(codec.pack(content, "float16")).array_records[ARRAYS].to_torch_state_dict()
    assert {tensor.dtype for tensor in back.values()} == {torch.float32}
    assert float(back["w"]) == 0.333251953125
    assert float(back["bn.running_var"]) == 1e6
    assert float(back["adam.second.w"]) == pytest.approx(1e-11)


def exchange_messages(
    states: list[State], folder: Path, between: Callable[[], None] = lambda: None
) -> tuple[list[int], list[State], list[str]]:
    """Sends one message per state to a node that caches in `folder`; returns bytes sent, states seen and errors."""
    sent: list[int] = []
    seen: list[State] = []
    errors: list[str] = []
    client, server = ClientApp(mods=[codec.packing_client(lambda context: FolderWeightCache(folder))]), ServerApp()

    @client.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        seen.append(message.content.array_records[ARRAYS].to_torch_state_dict())
        return Message(RecordDict(), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        packed = PackingGrid(inner, "float32")
        for state in states:
            exchange = ask(packed, [Message(RecordDict({ARRAYS: ArrayRecord(dict(state))}), 2, "evaluate")], names, 5)
            (reply,) = exchange.replies
            sent.append(exchange.sent["AIIMS Delhi"])
            errors.append(reply.error)
            between()

    names = Participants({2: "AIIMS Delhi"}).hospitals
    simulation.run_apps(server, client, {2: {}})
    return sent, seen, errors


def test_cached_weights_are_named_and_not_sent_again(tmp_path: Path) -> None:
    """Four bytes a weight and a header the first time, a SHA-256 the second, and other weights whole again."""
    one, other = {"w": torch.randn(1000)}, {"w": torch.randn(1000)}
    sent, seen, errors = exchange_messages([one, one, other], tmp_path)
    assert [4000 < sent[0] < 4300, sent[1] < 200, 4000 < sent[2] < 4300] == [True] * 3
    assert all(torch.equal(got["w"], asked["w"]) for got, asked in zip(seen, [one, one, other], strict=True))
    assert errors == [""] * 3
    assert len(list(tmp_path.iterdir())) == 1


def test_a_node_that_lost_its_cache_says_so_and_is_sent_the_weights_next_time(tmp_path: Path) -> None:
    def lose() -> None:
        for file in tmp_path.iterdir():
            file.unlink()

    state = {"w": torch.randn(1000)}
    sent, seen, errors = exchange_messages([state] * 3, tmp_path, lose)
    assert "no longer in its state folder" in errors[1]
    assert (errors[0], errors[2]) == ("", "")
    assert sent[2] > 4000
    assert len(seen) == 2
