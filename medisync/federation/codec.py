"""Messages as they travel: one piece, and weights only to a node that does not have them yet.

Flower moves every record and every array of a message by itself, 130 of them for a ResNet18, and each costs a request at each
of four hops. Packed, a message is one record. The weights that hospitals have just evaluated are those that they train from
next, so a node keeps the last block that it was sent, says so, and is then sent its SHA-256 in place of it.

A block of arrays is in safetensors' format, which says names, shapes and dtypes and holds nothing that could be executed.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medisync.config import Transport
from medisync.errors import UpdateError
from medisync.federation import update_store
from medisync.federation.messages import ARRAYS, CLIENT_RAISED, Opened, array_bytes
from medisync.model import adam

PACKED = "packed"
"""The one record of a packed message. Its keys are the kind and the name of each record that was there before."""

BLOCK, CONFIGS, METRICS = "block/", "config/", "metric/"
"""Kinds: arrays as one block; the others in Flower's own form."""

WEIGHTS = BLOCK + ARRAYS
KEPT = "kept"
"""In the place of weights: the SHA-256 of the block that is meant. In a reply: of the block that the node has."""


class WeightCache(Protocol):
    """Where a node keeps the last block of weights, by the SHA-256 of its bytes."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, block: bytes) -> None: ...


def pack(content: RecordDict, transport: Transport = "float32") -> RecordDict:
    """The same content as one record; weights as `transport` has them."""
    return RecordDict({PACKED: ConfigRecord(dict(_packed(content, transport)))})


def _packed(content: RecordDict, transport: Transport) -> Iterator[tuple[str, bytes]]:
    for name, record in content.array_records.items():
        halves = transport == "float16" and name == ARRAYS
        yield BLOCK + name, save({key: _travelling(key, array.numpy(), halves) for key, array in record.items()})
    yield from ((CONFIGS + name, record.deflate()) for name, record in content.config_records.items())
    yield from ((METRICS + name, record.deflate()) for name, record in content.metric_records.items())


def _travelling(key: str, values: NDArray[Any], halves: bool) -> NDArray[Any]:
    """Statistics and the optimiser's moments stay whole: they reach from 1e-12 to beyond the largest half."""
    small = halves and values.dtype == np.float32 and adam.is_weight(key)
    return np.asarray(values.astype(np.float16) if small else values, order="C")


def unpack(content: RecordDict) -> RecordDict:
    """The reverse. What is not packed, or damaged, stays as it is: whoever screens updates refuses it."""
    try:
        parcel = content.config_records[PACKED]
        return RecordDict({key.partition("/")[2]: _unpacked(key, value) for key, value in parcel.items()})
    except (SafetensorError, DecodeError, ValueError, TypeError, KeyError, AttributeError):
        return content


def _unpacked(key: str, value: Any) -> ArrayRecord | ConfigRecord | MetricRecord:
    if key.startswith(CONFIGS):
        return ConfigRecord.inflate(value)
    if key.startswith(METRICS):
        return MetricRecord.inflate(value)
    arrays = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in load(value).items()
    }
    return update_store.in_place(arrays)


def _name(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


def packing_client(find_shelf: Callable[[Context], WeightCache] | None = None) -> Mod:
    """A Flower mod: the client app sees arrays and answers with arrays; blocks travel, as precise as they came. The last block
    of weights is kept on the node's weight cache, if it has one.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        weight_cache = find_shelf(context) if find_shelf else None
        parcel = message.content.config_records.get(PACKED, ConfigRecord())
        try:
            kept = _resolve(parcel, weight_cache) if weight_cache else ""
        except UpdateError as error:
            return Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=message)
        transport = _transport(parcel)
        message.content = unpack(message.content)
        reply: Message = call_next(message, context)
        if reply.has_content():
            reply.content = pack(reply.content, transport)
            reply.content.config_records[PACKED][KEPT] = kept
        return reply

    return mod


def _transport(parcel: ConfigRecord) -> Transport:
    """As the header of the block of weights has it, whose length is in its first 8 bytes."""
    block = parcel.get(WEIGHTS)
    if not isinstance(block, bytes):
        return "float32"
    header = block[8 : 8 + int.from_bytes(block[:8], "little")]
    return "float16" if b'"dtype":"F16"' in header else "float32"


def _resolve(parcel: ConfigRecord, weight_cache: WeightCache) -> str:
    """Puts the block that is meant in its place, or keeps the one that came. Returns its name; empty without weights."""
    if KEPT in parcel:
        name = str(parcel.pop(KEPT))
        if (kept := weight_cache.get(name)) is None:
            raise UpdateError("the weights that it was to go on from are no longer in its state folder")
        parcel[WEIGHTS] = kept
        return name
    if isinstance(block := parcel.get(WEIGHTS), bytes):
        weight_cache.put(name := _name(block), block)
        return name
    return ""


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
            parcel = pack(content, self._transport)
            block = parcel.config_records[PACKED].get(WEIGHTS)
            packed[identity] = parcel, _name(block) if isinstance(block, bytes) else ""
        for message in messages:
            message.content = self._shortened(*packed[id(message.content)], message.metadata.dst_node_id)
        return self._grid.push_messages(messages)

    def _shortened(self, content: RecordDict, name: str, node: int) -> RecordDict:
        if name and self._kept.pop(node, "") == name:
            parcel = {key: value for key, value in content.config_records[PACKED].items() if key != WEIGHTS}
            return RecordDict({PACKED: ConfigRecord({**parcel, KEPT: name})})
        return content

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """One after the other: Flower's grid would fetch all that have come at once."""
        for name in list(message_ids):
            for reply in self._grid.pull_messages([name]):
                yield self._opened(reply)

    def _opened(self, reply: Message) -> Message:
        if reply.has_content():
            weight = array_bytes(reply.content)
            parcel = reply.content.config_records.get(PACKED, ConfigRecord())
            self._kept[reply.metadata.src_node_id] = str(parcel.pop(KEPT, ""))
            reply.content = Opened(weight, unpack(reply.content))
        return reply

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError("messages.ask pushes and pulls")
