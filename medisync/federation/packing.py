"""Weights as they travel: one block of bytes, and only to a node that does not have it yet.

Flower moves every array of a message by itself, 122 of them for a ResNet18, and each takes several requests at every hop.
Packed, a model is one array. The weights that hospitals have just evaluated are those that they train from next, so a node
keeps the last block that it was sent, says so, and is then sent its SHA-256 in place of it.

The block is in safetensors' format, which says names, shapes and dtypes and holds nothing that could be executed.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medisync import adam
from medisync.config import Transport
from medisync.errors import UpdateError
from medisync.federation.messages import ARRAYS, CLIENT_RAISED
from medisync.model import is_statistic

PACKED = "safetensors"
KEPT = "sha256"
"""In the place of a block: which one is meant. In a reply's record of the same name: which one the node has."""


class Shelf(Protocol):
    """Where a node keeps the last block of weights, by the SHA-256 of its bytes."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, block: bytes) -> None: ...


def pack(content: RecordDict, transport: Transport = "float32") -> RecordDict:
    """The same content with each of its array records as one array of bytes; weights as `transport` has them."""
    packed = RecordDict({name: record for name, record in content.items() if not isinstance(record, ArrayRecord)})
    for name, record in content.array_records.items():
        halves = transport == "float16" and name == ARRAYS
        block = save({key: _travelling(key, array.numpy(), halves) for key, array in record.items()})
        packed[name] = ArrayRecord({PACKED: Array(np.frombuffer(block, np.uint8))})
    return packed


def _travelling(key: str, values: NDArray[Any], halves: bool) -> NDArray[Any]:
    """Statistics and the optimiser's moments stay whole: they reach from 1e-12 to beyond the largest half."""
    small = halves and values.dtype == np.float32 and not is_statistic(key) and not adam.is_moment(key)
    return np.asarray(values.astype(np.float16) if small else values, order="C")


def unpack(content: RecordDict) -> RecordDict:
    """The reverse. A record that is no block, or a damaged one, stays as it is: whoever screens updates refuses it."""
    unpacked = RecordDict({name: record for name, record in content.items() if not isinstance(record, ArrayRecord)})
    for name, record in content.array_records.items():
        unpacked[name] = _unpacked(record)
    return unpacked


def _unpacked(record: ArrayRecord) -> ArrayRecord:
    if set(record) != {PACKED}:
        return record
    try:
        arrays = load(_block(record))
    except (SafetensorError, ValueError, TypeError, KeyError):
        return record
    return ArrayRecord(
        {key: Array(array.astype(np.float32) if array.dtype == np.float16 else array) for key, array in arrays.items()}
    )


def _block(record: ArrayRecord) -> bytes:
    return record[PACKED].numpy().tobytes()


def _name(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


def _packed_and_named(content: RecordDict, transport: Transport) -> tuple[RecordDict, str]:
    """With the name of its block of weights; empty without weights."""
    packed = pack(content, transport)
    return packed, _name(_block(packed.array_records[ARRAYS])) if ARRAYS in packed else ""


def packing_client(find_shelf: Callable[[Context], Shelf] | None = None) -> Mod:
    """A Flower mod: the client app sees arrays and answers with arrays; blocks travel, as precise as they came. The last block
    of weights is kept on the node's shelf, if it has one.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        shelf = find_shelf(context) if find_shelf else None
        try:
            kept = _resolve(message.content, shelf) if shelf else ""
        except UpdateError as error:
            return Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=message)
        transport = _transport(message.content)
        message.content = unpack(message.content)
        reply: Message = call_next(message, context)
        if reply.has_content():
            reply.content = pack(reply.content, transport)
            if kept:
                reply.content[KEPT] = ConfigRecord({KEPT: kept})
        return reply

    return mod


def _transport(content: RecordDict) -> Transport:
    """As the header of the block of weights has it, whose length is in its first 8 bytes."""
    record = content.array_records.get(ARRAYS, ArrayRecord())
    block = _block(record) if set(record) == {PACKED} else b""
    header = block[8 : 8 + int.from_bytes(block[:8], "little")]
    return "float16" if b'"dtype":"F16"' in header else "float32"


def _resolve(content: RecordDict, shelf: Shelf) -> str:
    """Puts the block that is meant in its place, or keeps the one that came. Returns its name; empty without weights."""
    record = content.array_records.get(ARRAYS, ArrayRecord())
    if set(record) == {KEPT}:
        name = record[KEPT].numpy().tobytes().hex()
        if (block := shelf.get(name)) is None:
            raise UpdateError("the weights that it was to go on from are no longer in its state folder")
        content[ARRAYS] = ArrayRecord({PACKED: Array(np.frombuffer(block, np.uint8))})
        return name
    if set(record) != {PACKED}:
        return ""
    name = _name(block := _block(record))
    shelf.put(name, block)
    return name


class PackingGrid(Grid):
    """The server's half of the same: a grid on which strategies see arrays, and blocks travel."""

    def __init__(self, grid: Grid, transport: Transport) -> None:
        self._grid = grid
        self._transport = transport
        self._kept: dict[int, str] = {}
        """The block that each node says it has."""

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        return self._grid.create_message(*arguments, **options)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Leaves the messages as they travel, so that who counts their bytes counts what was sent."""
        messages, packed = list(messages), dict[int, tuple[RecordDict, str]]()
        contents = {id(message.content): message.content for message in messages}  # alive, so that no id is used again
        for identity, content in contents.items():
            packed[identity] = _packed_and_named(content, self._transport)
        for message in messages:
            message.content = self._shortened(*packed[id(message.content)], message.metadata.dst_node_id)
        return self._grid.push_messages(messages)

    def _shortened(self, content: RecordDict, name: str, node: int) -> RecordDict:
        if name and self._kept.pop(node, "") == name:
            named = ArrayRecord({KEPT: Array(np.frombuffer(bytes.fromhex(name), np.uint8))})
            return RecordDict({**content, ARRAYS: named})
        return content

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """One after the other: Flower's grid would fetch all that have come at once."""
        for name in list(message_ids):
            for reply in self._grid.pull_messages([name]):
                yield self._opened(reply)

    def _opened(self, reply: Message) -> Message:
        if reply.has_content():
            said = reply.content.config_records.get(KEPT, ConfigRecord())
            self._kept[reply.metadata.src_node_id] = str(said.get(KEPT, ""))
            reply.content = unpack(RecordDict({k: v for k, v in reply.content.items() if k != KEPT}))
        return reply

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError("messages.ask pushes and pulls")
