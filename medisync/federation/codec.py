"""The packed form of messages: each travels as one record, and weights only to a node that does not have them yet.

Flower moves every record and every array of a message separately, 130 of them for a ResNet18, and each costs a request
at each of four hops. A packed message is one record. A node caches the last weights that it received and reports their
name, the SHA-256 of their values. It is then sent the name instead of the weights, or, with the transport "compact",
the change from the weights that it has; its own weights return as a change from those that it was sent.

A block of arrays is in safetensors' format, which holds names, shapes and dtypes and nothing that could be executed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medisync.config import Transport
from medisync.errors import UpdateError
from medisync.federation import changes, update_store
from medisync.federation.broadcast import Change
from medisync.federation.messages import (
    ARRAYS,
    CHANGE,
    CONFIG,
    HAND_ON,
    UnpackedContent,
    array_bytes,
    digest,
    error_reply,
    to_values,
)
from medisync.federation.wrapped_grid import WrappedGrid
from medisync.model import adam

PACKED = "packed"
"""Name of the one record of a packed message. Its keys are the kind and the name of each packed record, and those below."""

BLOCK, CONFIGS, METRICS = "block/", "config/", "metric/"
"""Kinds of packed records: arrays are one block, the others have Flower's own serialised form."""

WEIGHTS = BLOCK + ARRAYS

TRANSPORT, NAME = "transport", "name"
"""In every message: how it is packed, and the name of its weights, whether they come with it or not."""

DIFFERENCE, BASE, MOMENTS, MOMENTUM = "change", "base", "moments", "momentum"
"""In place of weights: the change that makes them, the name of the weights to be changed, and whether second and first
moments change too."""

SHA256 = re.compile("[0-9a-f]{64}")

HELD = "kept"
"""In a reply: the name of the weights that the node has cached."""


class WeightCache(Protocol):
    """The last weights that a node received, as a block of bytes, by their name."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, block: bytes) -> None: ...


class MemoryWeightCache:
    """Keeps the last weights in memory: those of all nodes of a simulation, which have the same."""

    def __init__(self) -> None:
        self._kept: tuple[str, bytes] = "", b""

    def get(self, name: str) -> bytes | None:
        return self._kept[1] if name == self._kept[0] else None

    def put(self, name: str, block: bytes) -> None:
        self._kept = name, block


def pack(content: RecordDict, transport: Transport = "float32") -> RecordDict:
    """Returns the content as one record, its weights whole: rounded to half precision with the transport "float16"."""
    return RecordDict({PACKED: ConfigRecord({TRANSPORT: transport, **dict(_packed(content, transport))})})


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
        records = {key.partition("/")[2]: _unpacked(key, value) for key, value in parcel.items() if "/" in key}
        return RecordDict(records)
    except (SafetensorError, DecodeError, ValueError, TypeError, KeyError, AttributeError):
        return content


def _unpacked(key: str, value: Any) -> ArrayRecord | ConfigRecord | MetricRecord:
    if key.startswith(CONFIGS):
        return ConfigRecord.inflate(value)
    if key.startswith(METRICS):
        return MetricRecord.inflate(value)
    return _load(value)


def _load(block: bytes) -> ArrayRecord:
    arrays = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in load(block).items()
    }
    return update_store.in_place(arrays)


def packing_client(find_cache: Callable[[Context], WeightCache] | None = None) -> Mod:
    """Returns a Flower mod that unpacks messages for the client app and packs its replies, as the message was packed.

    `find_cache` returns the weight cache of a node, given its context; without it a node caches nothing.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        parcel = message.content.config_records.get(PACKED, ConfigRecord())
        try:
            message.content, held = _open(message.content, find_cache(context) if find_cache else None)
        except UpdateError as error:
            return error_reply(message, str(error))
        question = message.content  # the client app may replace it
        reply: Message = call_next(message, context)
        if reply.has_content():
            reply.content = _pack_reply(reply.content, question, parcel)
            reply.content.config_records[PACKED][HELD] = held
        return reply

    return mod


def _open(content: RecordDict, weight_cache: WeightCache | None) -> tuple[RecordDict, str]:
    """Returns what a node was sent, and the name of the weights that it has cached, which is empty without weights.

    Raises UpdateError if it has not the weights that the message counts on, or makes others of a change than the server.
    """
    parcel, opened = content.config_records.get(PACKED, ConfigRecord()), unpack(content)
    name, whole = str(parcel.get(NAME, "")), parcel.get(WEIGHTS)
    if weight_cache is None or not name:
        return opened, ""
    if not SHA256.fullmatch(name):
        raise UpdateError(f"weights cannot have the name {name[:80]!r}; expected a SHA-256")
    if isinstance(whole, bytes):
        weight_cache.put(name, whole)
        return opened, name
    return _with_weights(opened, _find_weights(parcel, name, weight_cache)), name


def _find_weights(parcel: ConfigRecord, name: str, weight_cache: WeightCache) -> ArrayRecord:
    """Returns the weights of this name from the cache, or what the message's change makes of those in the cache."""
    if (weights := _cached(weight_cache, name)) is not None:
        return weights
    before, change = _cached(weight_cache, str(parcel.get(BASE))), parcel.get(DIFFERENCE)
    if before is None or not isinstance(change, bytes):
        raise UpdateError("the weights that it was to train from are no longer in its state folder")
    arrays = changes.decode(
        change, to_values(before), moments=bool(parcel.get(MOMENTS)), momentum=bool(parcel.get(MOMENTUM))
    )
    weights = update_store.in_place(arrays)
    if digest(weights) != name:
        raise UpdateError("the weights that it made of the server's change are not those that the server has")
    weight_cache.put(name, save(arrays))
    return weights


def _cached(weight_cache: WeightCache, name: str) -> ArrayRecord | None:
    """Returns the weights of this name, or None if the cache does not have them, or has not the whole of them."""
    try:
        return None if (block := weight_cache.get(name)) is None else _load(block)
    except SafetensorError:
        return None


def _pack_reply(content: RecordDict, question: RecordDict, parcel: ConfigRecord) -> RecordDict:
    """Returns a reply in the message's transport: with "compact" its weights as a change of those in the question."""
    transport, weights = parcel.get(TRANSPORT), content.array_records.get(ARRAYS)
    if transport != "compact" or weights is None:
        return pack(content, "float16" if transport == "float16" else "float32")
    packed = pack(RecordDict({name: record for name, record in content.items() if name != ARRAYS}), "compact")
    generator = np.random.default_rng(int(digest(weights), 16))  # another one for every hospital and round
    packed.config_records[PACKED][DIFFERENCE] = changes.encode(
        to_values(question.array_records[ARRAYS]),
        to_values(weights),
        moments=_hands_on_moments(question),
        generator=generator,
    )
    packed.config_records[PACKED][BASE] = str(parcel[NAME])
    return packed


def _with_weights(content: RecordDict, weights: ArrayRecord) -> RecordDict:
    return RecordDict({ARRAYS: weights, **content})


def _hands_on_moments(content: RecordDict) -> bool:
    """Returns whether a reply to the content is to hold second moments."""
    return bool(content.config_records[CONFIG].get(HAND_ON, False))


class _Outgoing:
    """A content to be sent to several nodes: to each as far as it does not have the weights yet."""

    def __init__(self, content: RecordDict, transport: Transport) -> None:
        self.content = content
        self._transport = transport
        weights, change = content.array_records.get(ARRAYS), content.config_records.get(CHANGE)
        self._change = Change.from_record(change) if change else None
        self.name = self._change.name if self._change else digest(weights) if weights else ""

    def to_node(self, held: str) -> RecordDict:
        """Returns the packed content for a node that has the weights of the name `held`."""
        if self.name in ("", held):
            added: Mapping[str, Any] = {}
        elif self._change and self._change.base == held:
            change = self._change
            added = {BASE: held, DIFFERENCE: change.block, MOMENTS: change.moments, MOMENTUM: change.momentum}
        else:
            added = self._weights
        return RecordDict({PACKED: ConfigRecord({**self._rest, **added})})

    @cached_property
    def _rest(self) -> Mapping[str, Any]:
        others = {name: record for name, record in self.content.items() if name not in (ARRAYS, CHANGE)}
        return {**pack(RecordDict(others), self._transport).config_records[PACKED], NAME: self.name}

    @cached_property
    def _weights(self) -> Mapping[str, Any]:
        weights = RecordDict({ARRAYS: self.content.array_records[ARRAYS]})
        return {WEIGHTS: pack(weights, self._transport).config_records[PACKED][WEIGHTS]}


class PackingGrid(WrappedGrid):
    """The server's counterpart of `packing_client`: a grid that packs messages and unpacks replies."""

    def __init__(self, grid: Grid, transport: Transport) -> None:
        super().__init__(grid)
        self._transport = transport
        self._held: dict[int, str] = {}
        """Name of the weights that each node reports as cached."""
        self._questions: dict[str, RecordDict] = {}
        """The contents sent last, which replies refer to, by the name of their weights."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Gives the messages their packed contents, so that counting their bytes afterwards counts what was sent."""
        messages = list(messages)
        contents = {id(message.content): message.content for message in messages}  # alive, so that no id is used again
        outgoing = {identity: _Outgoing(content, self._transport) for identity, content in contents.items()}
        self._questions = {each.name: each.content for each in outgoing.values() if each.name}
        for message in messages:
            held = self._held.pop(message.metadata.dst_node_id, "")
            message.content = outgoing[id(message.content)].to_node(held)
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yields replies one after the other: Flower's grid would fetch all of them at once."""
        for name in list(message_ids):
            for reply in self._grid.pull_messages([name]):
                yield self._unpacked(reply)

    def _unpacked(self, reply: Message) -> Message:
        if reply.has_content():
            packed_bytes = array_bytes(reply.content)
            parcel = reply.content.config_records.get(PACKED, ConfigRecord())
            self._held[reply.metadata.src_node_id] = str(parcel.get(HELD, ""))
            reply.content = UnpackedContent(packed_bytes, self._read(reply.content, parcel))
        return reply

    def _read(self, content: RecordDict, parcel: ConfigRecord) -> RecordDict:
        """Returns a reply's records; a change of weights that cannot be read is left for update validation to refuse."""
        change, question = parcel.get(DIFFERENCE), self._questions.get(str(parcel.get(BASE)))
        opened = unpack(content)
        if not isinstance(change, bytes) or question is None:
            return opened
        try:
            before = to_values(question.array_records[ARRAYS])
            arrays = changes.decode(change, before, moments=_hands_on_moments(question))
        except UpdateError:
            return content
        return _with_weights(opened, update_store.in_place(arrays))
