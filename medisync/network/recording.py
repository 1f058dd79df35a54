"""Both ends of the record: a hospital logs each message as it travels, and the server states its run and keeps the seals."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid

from medisync.errors import ArtifactError, MediSyncError
from medisync.federation.codec import CONFIGS, PACKED
from medisync.federation.messages import CONFIG, ROUND, error_reply
from medisync.federation.wrapped_grid import WrappedGrid
from medisync.network.audit_log import AuditLog, Seal, keep_seal
from medisync.network.run_request import REQUEST, RunRequest

log = logging.getLogger(__name__)

SEAL = "seal"
"""Name of the record with the seal of the line that a hospital wrote about its answer."""

IN_A_REFUSAL = re.compile(r" \[audit log: line ([0-9]{1,12}, [0-9a-f]{64})\]$")
"""The seal at the end of an error's reason: an error carries no records."""

MOST_FIELDS, LONGEST_NAME = 64, 80
"""Fields of a message that are listed, and characters of their names: the server chooses both."""


def recording(find_log: Callable[[Context], AuditLog]) -> Mod:
    """Returns a Flower mod that logs each message and its answer, and seals the answer.

    It has to be the outermost: what it has seen is what travels. Nothing is answered that cannot be logged.
    """

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        journal = find_log(context)
        about = {"run": message.metadata.run_id, "kind": str(message.metadata.message_type)[:LONGEST_NAME]}
        try:
            journal.append({"event": "in", **about, **_describe(message.content)})
            reply = _answer(message, context, call_next)
            about |= _round_of(message.content)  # unpacked by now
            if reply.has_error():
                return _sealed_error(reply, journal.append({"event": "out", **about, "answer": "error"}), message)
            seal = journal.append({"event": "out", **about, "answer": "content", **_describe(reply.content)})
        except ArtifactError as error:
            return error_reply(message, str(error))
        _attach(seal, reply.content)
        return reply

    return mod


def _answer(message: Message, context: Context, call_next: Any) -> Message:
    """Returns the answer; whatever was raised on the way to it becomes one, so that it is logged and sealed as well."""
    try:
        reply: Message = call_next(message, context)
    except MediSyncError as error:
        return error_reply(message, str(error))
    except Exception as error:  # Flower would answer with the same, outside the log
        log.exception("a message could not be answered")
        return error_reply(message, f"{type(error).__name__}: {error}")
    return reply


class AccountableGrid(WrappedGrid):
    """A grid that states the run in every message, and keeps the seals of the answers. It wraps a packing grid."""

    def __init__(self, grid: Grid, request: RunRequest, folder: Path) -> None:
        super().__init__(grid)
        self._request, self._folder = request, folder
        self._names: dict[int, str] = {}

    def get_nodes(self) -> Iterable[Any]:
        nodes = list(super().get_nodes())
        self._names |= {node.node_id: str(node.name) for node in nodes}
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Messages that share their content share it afterwards too, so that it is packed once."""
        messages = list(messages)
        shared = {id(message.content): message.content for message in messages}  # alive, so that no id is used again
        stated = {
            identity: RecordDict({**content, REQUEST: self._request.to_record()})
            for identity, content in shared.items()
        }
        for message in messages:
            message.content = stated[id(message.content)]
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        for reply in self._grid.pull_messages(message_ids):
            yield self._without_seal(reply)

    def _without_seal(self, reply: Message) -> Message:
        if reply.has_error():
            reason = reply.error.reason or ""
            if found := IN_A_REFUSAL.search(reason):
                self._keep(reply, found[1])
                reply.error = Error(reply.error.code, IN_A_REFUSAL.sub("", reason))
        elif SEAL in reply.content:
            seal = reply.content[SEAL]
            del reply.content[SEAL]
            self._keep(reply, f"{seal.get('line')!s}, {seal.get('sha256')!s}" if isinstance(seal, ConfigRecord) else "")
        return reply

    def _keep(self, reply: Message, text: str) -> None:
        line, _, sha256 = text.partition(", ")
        hospital = self._names.get(reply.metadata.src_node_id)
        if hospital and re.fullmatch(r"[0-9]{1,12}", line) and re.fullmatch(r"[0-9a-f]{64}", sha256):
            keep_seal(self._folder, hospital, self._request.run, Seal(int(line), sha256))


def _sealed_error(reply: Message, seal: Seal, message: Message) -> Message:
    sealed = f"{reply.error.reason or 'no reason given'} [audit log: line {seal.line}, {seal.sha256}]"
    return error_reply(message, sealed)


def _attach(seal: Seal, content: RecordDict) -> None:
    record = ConfigRecord({"line": seal.line, "sha256": seal.sha256})
    if PACKED in content.config_records:  # a record of its own would be one more request at each hop
        content.config_records[PACKED][CONFIGS + SEAL] = record.deflate()
    else:
        content[SEAL] = record


def _round_of(content: RecordDict) -> dict[str, int]:
    number = content.config_records.get(CONFIG, ConfigRecord()).get(ROUND)
    return {"round": number} if isinstance(number, int) else {}


def _describe(content: RecordDict) -> dict[str, Any]:
    """Returns name, bytes and SHA-256 of each field of a message as it travels, at most MOST_FIELDS of them."""
    fields = list(_fields(content))
    told = [{"name": name[:LONGEST_NAME], "bytes": size, "sha256": digest} for name, size, digest in fields]
    more = {"more-fields": len(fields) - MOST_FIELDS} if len(fields) > MOST_FIELDS else {}
    return {"fields": told[:MOST_FIELDS], **more}


def _fields(content: RecordDict) -> Iterator[tuple[str, int, str]]:
    for name, record in content.items():
        if name == PACKED and isinstance(record, ConfigRecord):
            for key, value in record.items():
                yield _field(key, value if isinstance(value, bytes) else str(value).encode())
        else:
            yield _field(name, _serialised(record))


def _field(name: str, block: bytes) -> tuple[str, int, str]:
    return name, len(block), hashlib.sha256(block).hexdigest()


def _serialised(record: ArrayRecord | ConfigRecord | MetricRecord) -> bytes:
    if isinstance(record, ArrayRecord):
        return b"".join(array.data for array in record.values())
    return record.deflate()
