"""Updates that wait on disk for the others of their round."""

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
    stored = waiting.on_disk(ArrayRecord(dict(state)))
    assert all(type(array) is waiting.WaitingArray and not array.data for array in stored.values())
    back = stored.to_torch_state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)


def waiting_update(value: float) -> Reply:
    def answer(message: Message) -> RecordDict:
        content = update(value)(message)
        content[ARRAYS] = waiting.on_disk(content.array_records[ARRAYS])
        return content

    return answer


def test_an_aggregate_of_updates_that_wait_is_that_of_updates_in_memory() -> None:
    """(1 + 2 + 4.5) / 3."""
    in_memory, _ = one_round({2: update(1.0), 3: update(2.0), 4: update(4.5)})
    waited, screened = one_round({2: waiting_update(1.0), 3: waiting_update(2.0), 4: waiting_update(4.5)})
    assert in_memory["w"].item() == waited["w"].item() == 2.5
    assert {type(each.content.array_records[ARRAYS]["w"]) for each in screened.accepted} == {waiting.WaitingArray}


@pytest.mark.parametrize(("hospitals", "kind"), [(3, Array), (4, waiting.WaitingArray)])
def test_updates_of_more_hospitals_than_three_wait_on_disk(hospitals: int, kind: type[Array]) -> None:
    client, server, kinds = ClientApp(), ServerApp(), set[type[Array]]()
    names = {node: f"hospital {node}" for node in range(2, 2 + hospitals)}

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({ARRAYS: message.content.array_records[ARRAYS]}), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        weights = ArrayRecord({"w": torch.tensor([float("nan"), 1.0])})
        exchange = ask(inner, [Message(RecordDict({ARRAYS: weights}), node, "train") for node in names], names, 5)
        kinds.update(type(reply.content.array_records[ARRAYS]["w"]) for reply in exchange.replies)

    grid.run_apps(server, client, {node: {} for node in names})
    assert kinds == {kind}
