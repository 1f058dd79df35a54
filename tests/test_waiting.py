"""Updates that wait on disk for the others of their round."""

import tempfile

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from test_federation import Reply, one_round, update

from medisync.federation import grid, waiting
from medisync.federation.messages import ARRAYS, ask


def test_what_waits_on_disk_comes_back_the_same() -> None:
    state = {
        "w": torch.randn(7, 3),
        "odd": torch.arange(5, dtype=torch.int64),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0),
    }
    stored = waiting.put_aside(ArrayRecord(dict(state)))
    assert all(type(array) is waiting.WaitingArray and not array.data for array in stored.values())
    back = stored.to_torch_state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)


def waiting_update(value: float) -> Reply:
    def answer(message: Message) -> RecordDict:
        content = update(value)(message)
        content[ARRAYS] = waiting.put_aside(content.array_records[ARRAYS])
        return content

    return answer


def test_an_aggregate_of_updates_that_wait_is_that_of_updates_in_memory() -> None:
    """(1 + 2 + 4.5) / 3."""
    in_memory, _ = one_round({2: update(1.0), 3: update(2.0), 4: update(4.5)})
    waited, screened = one_round({2: waiting_update(1.0), 3: waiting_update(2.0), 4: waiting_update(4.5)})
    assert in_memory["w"].item() == waited["w"].item() == 2.5
    assert all(isinstance(each.content.array_records[ARRAYS]["w"].numpy(), np.memmap) for each in screened.accepted)


@pytest.mark.parametrize("disk", ["with room", "full"])
def test_every_update_waits_on_disk_and_stays_in_memory_where_there_is_no_room(
    disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if disk == "full":
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115, PTH123
    client, server, found = ClientApp(), ServerApp(), list[Array]()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({ARRAYS: message.content.array_records[ARRAYS]}), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        weights = ArrayRecord({"w": torch.tensor([2.0, 1.0])})
        exchange = ask(inner, [Message(RecordDict({ARRAYS: weights}), 2, "train")], {2: "North"}, 5)
        found.extend(reply.content.array_records[ARRAYS]["w"] for reply in exchange.replies)

    grid.run_apps(server, client, {2: {}})
    (array,) = found
    assert array.numpy().tolist() == [2.0, 1.0]
    assert isinstance(array.numpy(), np.memmap) == (disk == "with room")
