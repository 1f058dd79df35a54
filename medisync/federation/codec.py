"""The packed form of messages: each travels as one record, and weights only to a node that does not have them yet.

Flower moves every record and every array of a message separately, 130 of them for a ResNet18, and each costs a request
at each of four hops. A packed message is one record. The weights that hospitals have just evaluated are those that they
train from next, so a node caches the last block of weights, reports its SHA-256, and is then sent the SHA-256 instead
of the block.

A block of arrays is in safetensors' format, which holds names, shapes and dtypes and nothing that could be executed.
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
from medisync.federation.messages import ARRAYS, CLIENT_RAISED, UnpackedContent, array_bytes
from medisync.model import adam

PACKED = "packed"
"""Name of the one record of a packed message. Its keys are the kind and the name of each packed record."""

BLOCK, CONFIGS, METRICS = "block/", "config/", "metric/"
"""Kinds of packed records: arrays are one block, the others have Flower's own serialised form."""

WEIGHTS = BLOCK + ARRAYS
CACHED = "kept"
"""To a node, instead of weights: the SHA-256 of the block in its cache. In a reply: that of the block it has cached."""


class WeightCache(Protocol):
    """The last block of weights that a node received, by the SHA-256 of its bytes."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, block: bytes) -> None: ...


def pack(content: RecordDict, transport: Transport = "float32") -> RecordDict:
    """Returns the content as one record, its weights at the precision of `transport`."""
    return RecordDict({PACKED: ConfigRecord(dict(_packed(content, transport)))})


def _packed(content: RecordDict, transport: Transport) -> Iterator[tuple[str, bytes]]:
    for name, record in content.array_records.items():
        half = transport == "float16" and name == ARRAYS
        yield BLOCK + name, save({key: _to_travel(key, array.numpy(), half) for key, array in record.items()})
    yield from ((CONFIGS + name, record.deflate()) for name, record in content.config_records.items())
    yield from ((METRICS + name, record.deflate()) for name, record in content.metric_records.items())


def _to_travel(key: str, values: NDArray[Any], half: bool) -> NDArray[Any]:
    """Rounds weights to half precision if wanted, but not running statistics and moments.

    Those reach from 1e-12 to beyond the largest number of half precision.
    """
    small = half and values.dtype == np.float32 and adam.is_weight(key)
    return np.asarray(values.astype(np.float16) if small else values, order="C")


def unpack(content: RecordDict) -> RecordDict:
    """Reverses `pack`. Content that is damaged or not packed is returned as it is: update validation refuses it."""
    try:
        parcel = content.config_records[PACKED]
        records = {key: value for key, value in parcel.items() if key != CACHED}
        return RecordDict({key.partition("/")[2]: _unpacked(key, value) for key, value in records.items()})
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


def packing_client(find_cache: Callable[[Context], WeightCache] | None = None) -> Mod:
    """Returns a Flower mod that unpacks messages for the client app and packs its replies, at the message's precision.

    `find_cache` returns the weight cache of a node, given its context; without it a node caches nothing.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        weight_cache = find_cache(context) if find_cache else None
        parcel = message.content.config_records.get(PACKED, ConfigRecord())
        try:
            parcel, cached = _resolve(parcel, weight_cache) if weight_cache else (parcel, "")
        except UpdateError as error:
            return Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=message)
        transport = _transport(parcel)
        message.content = unpack(RecordDict({PACKED: parcel}) if parcel else message.content)
        reply: Message = call_next(message, context)
        if reply.has_content():
            reply.content = pack(reply.content, transport)
            reply.content.config_records[PACKED][CACHED] = cached
        return reply

    return mod


def _transport(parcel: ConfigRecord) -> Transport:
    """Returns the precision of the block of weights, from its header, whose length is in the first 8 bytes."""
    block = parcel.get(WEIGHTS)
    if not isinstance(block, bytes):
        return "float32"
    header = block[8 : 8 + int.from_bytes(block[:8], "little")]
    return "float16" if b'"dtype":"F16"' in header else "float32"


def _resolve(parcel: ConfigRecord, weight_cache: WeightCache) -> tuple[ConfigRecord, str]:
    """Returns the record with the block that its SHA-256 stands for, and that SHA-256, which is empty without weights.

    A block that came with the message goes to the cache. Raises UpdateError if the cache no longer has the block.
    """
    if CACHED in parcel:
        name = str(parcel[CACHED])
        if (block := weight_cache.get(name)) is None:
            raise UpdateError("the weights that it was to train from are no longer in its state folder")
        rest = {key: value for key, value in parcel.items() if key != CACHED}
        return ConfigRecord({**rest, WEIGHTS: block}), name
    sent = parcel.get(WEIGHTS)
    if not isinstance(sent, bytes):
        return parcel, ""
    weight_cache.put(name := _name(sent), sent)
    return parcel, name


class PackingGrid(Grid):
    """The server's counterpart of `packing_client`: a grid that packs messages and unpacks replies."""

    def __init__(self, grid: Grid, transport: Transport) -> None:
        self._grid = grid
        self._transport = transport
        self._cached: dict[int, str] = {}
        """SHA-256 of the block that each node reports as cached."""

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
        """Gives the messages their packed contents, so that counting their bytes afterwards counts what was sent."""
        messages, packed = list(messages), dict[int, tuple[RecordDict, str]]()
        contents = {id(message.content): message.content for message in messages}  # alive, so that no id is used again
        for identity, content in contents.items():
            parcel = pack(content, self._transport)
            block = parcel.config_records[PACKED].get(WEIGHTS)
            packed[identity] = parcel, _name(block) if isinstance(block, bytes) else ""
        for message in messages:
            message.content = self._without_cached(*packed[id(message.content)], message.metadata.dst_node_id)
        return self._grid.push_messages(messages)

    def _without_cached(self, content: RecordDict, name: str, node: int) -> RecordDict:
        if name and self._cached.pop(node, "") == name:
            parcel = {key: value for key, value in content.config_records[PACKED].items() if key != WEIGHTS}
            return RecordDict({PACKED: ConfigRecord({**parcel, CACHED: name})})
        return content

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yields replies one after the other: Flower's grid would fetch all of them at once."""
        for name in list(message_ids):
            for reply in self._grid.pull_messages([name]):
                yield self._unpacked(reply)

    def _unpacked(self, reply: Message) -> Message:
        if reply.has_content():
            packed_bytes = array_bytes(reply.content)
            parcel = reply.content.config_records.get(PACKED, ConfigRecord())
            self._cached[reply.metadata.src_node_id] = str(parcel.get(CACHED, ""))
            reply.content = UnpackedContent(packed_bytes, unpack(reply.content))
        return reply

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError("use messages.ask, which pushes and pulls")
