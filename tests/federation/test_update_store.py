"""The update store: updates wait on disk for the others of their round."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import one_round, update
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.federation import simulation, update_store
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, Reply, ask
from medisync.federation.update_validation import validate_updates


def test_stored_arrays_come_back_the_same() -> None:
    state = {
        "w": torch.randn(7, 3),
        "odd": torch.arange(5, dtype=torch.int64),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0),
    }
    stored = update_store.UpdateStore().put_aside(ArrayRecord(dict(state)))
    assert all(type(array) is update_store.StoredArray and not array.data for array in stored.values())
    back = stored.to_torch_state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)


def test_a_place_is_reused_once_nothing_refers_to_it() -> None:
    store = update_store.UpdateStore()

    def put(value: float, count: int = 3) -> ArrayRecord:
        return store.put_aside(ArrayRecord({"w": torch.full((count,), value), "v": torch.tensor([value])}))

    first, second = put(1.0), put(2.0)
    kept = first["w"].numpy()[1:]
    size = os.fstat(store._file.fileno()).st_size
    del first
    third = put(3.0)  # the view alone keeps the place of the first
    assert kept.tolist() == [1.0, 1.0]
    assert os.fstat(store._file.fileno()).st_size == 1.5 * size
    del kept, second
    fourth, fifth, larger = put(4.0), put(5.0), put(6.0, 100_000)
    assert [each["w"].numpy()[0] for each in (third, fourth, fifth, larger)] == [3, 4, 5, 6]
    assert os.fstat(store._file.fileno()).st_size - 1.5 * size >= 400_000 > size


def in_a_file(array: Array) -> bool:
    values: Any = array.numpy()
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, memoryview) and isinstance(values.obj, mmap.mmap)


def test_stored_updates_have_the_same_aggregate_as_updates_in_memory() -> None:
    """(1 + 2 + 4.5) / 3."""
    answers = {2: update(1.0), 3: update(2.0), 4: update(4.5)}
    in_memory, _ = one_round(answers)
    store = update_store.UpdateStore()
    waited, result = one_round(answers, store=store)
    assert in_memory["w"].item() == waited["w"].item() == 2.5
    assert result.accepted.keys() == {"North", "South", "West"}
    assert os.fstat(store._file.fileno()).st_size == 3 * mmap.ALLOCATIONGRANULARITY


def test_validation_leaves_stored_updates_on_disk() -> None:
    arrays = ArrayRecord({"w": torch.tensor([1.0])})
    figures = MetricRecord({COUNT: 1, "loss": 0.5, "accuracy": 0.5, "seconds": 1.0})
    content = {ARRAYS: update_store.UpdateStore().put_aside(arrays), METRICS: figures, CONFIG: ConfigRecord({ROUND: 1})}
    (accepted,) = validate_updates([Reply("North", RecordDict(content))], arrays, 1).accepted
    assert in_a_file(accepted.arrays["w"])


@pytest.mark.parametrize("disk", ["with room", "full"])
def test_updates_wait_on_disk_and_stay_in_memory_if_the_disk_is_full(
    disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if disk == "full":
        full = Path("/dev/full")
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("r+b", buffering=0))
    client, server, found = ClientApp(), ServerApp(), list[Array]()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict({ARRAYS: message.content.array_records[ARRAYS]}), reply_to=message)

    @server.main()
    def main(inner: Grid, context: Context) -> None:
        weights = ArrayRecord({"w": torch.tensor([2.0, 1.0])})
        question = Message(RecordDict({ARRAYS: weights}), 2, "train")
        exchange = ask(inner, [question], {2: "North"}, 5, update_store.UpdateStore())
        found.extend(reply.content.array_records[ARRAYS]["w"] for reply in exchange.replies)

    simulation.run_apps(server, client, {2: {}})
    (array,) = found
    assert array.numpy().tolist() == [2.0, 1.0]
    assert in_a_file(array) == (disk == "with room")
