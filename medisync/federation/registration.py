"""Before a hospital takes part in a networked federation: who it is, and whether it runs what the server runs."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from medisync.errors import FederationError, UpdateError
from medisync.federation.messages import POLL_SECONDS, Participants, ask
from medisync.schemas import LABELS, Introduction, Refusal
from medisync.version import software

log = logging.getLogger(__name__)

HELLO = "hello"
INTRODUCTION = "introduction"
HELLO_SECONDS = 120.0
"""A node that does not introduce itself within this time is left out of the round."""


def to_record(introduction: Introduction) -> RecordDict:
    return RecordDict({INTRODUCTION: ConfigRecord({"json": introduction.model_dump_json()})})


def require_fit(introduction: Introduction, name: str) -> None:
    """Raises UpdateError where a hospital is not who its key says, or computes with other code or other classes."""
    if introduction.hospital != name:
        raise UpdateError(f"its key is registered for {name}, but it calls itself {introduction.hospital}")
    if introduction.version != software():
        raise UpdateError(f"it runs medisync {introduction.version}, this server {software()}; install the same")
    if introduction.labels != list(LABELS):
        raise UpdateError(f"its classes are {', '.join(introduction.labels)}, expected {', '.join(LABELS)}")


@dataclass
class ClientRegistration:
    """Who of the registered hospitals is connected and has introduced itself. Pass `find_participants` to the federation.

    A node is asked again when it has connected anew since: another program may be behind the same key.
    """

    grid: Grid
    members: frozenset[str]
    """The names of the registered hospitals."""
    at_least: int
    patience: float
    """Seconds to wait for that many."""
    introductions: dict[str, Introduction] = field(default_factory=dict)
    """Of every hospital that was ever welcome, by name."""
    _refused: dict[str, str] = field(default_factory=dict)
    _heard: dict[int, str] = field(default_factory=dict)
    """Nodes that were asked, with the time of the connection then."""

    def gather(self, seconds: float) -> None:
        """Waits until every member is connected and has been heard, at most so long."""
        end = time.monotonic() + seconds
        while len(self._look().hospitals) + len(self._refused) < len(self.members) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)

    def find_participants(self) -> Participants:
        """Raises FederationError where too few hospitals are connected and welcome before the patience ends."""
        end = time.monotonic() + self.patience
        while len((participants := self._look()).hospitals) < self.at_least:
            if time.monotonic() >= end:
                reasons = "; ".join(f"{each.hospital} {each.reason}" for each in participants.absent)
                raise FederationError(
                    f"{len(participants.hospitals)} hospitals take part, at least {self.at_least} are needed ({reasons});"
                    " start `medisync federation hospital` there, then go on with --resume"
                )
            time.sleep(POLL_SECONDS)
        return participants

    def _look(self) -> Participants:
        connected = {node.node_id: node for node in self.grid.get_nodes() if node.name in self.members}
        names = {number: str(node.name) for number, node in connected.items()}
        self._greet({n: name for n, name in names.items() if self._heard.get(n) != connected[n].last_activated_at})
        self._heard |= {number: node.last_activated_at for number, node in connected.items()}
        welcome = {number: name for number, name in names.items() if name not in self._refused}
        return Participants(welcome, self._absent(set(names.values())))

    def _greet(self, newcomers: Mapping[int, str]) -> None:
        if not newcomers:
            return
        messages = [Message(RecordDict(), node, f"{MessageType.QUERY}.{HELLO}") for node in newcomers]
        exchange = ask(self.grid, messages, newcomers, HELLO_SECONDS)
        self._refused = {name: why for name, why in self._refused.items() if name not in newcomers.values()}
        for reply in exchange.replies:
            self._receive(newcomers[reply.metadata.src_node_id], reply)
        self._refused |= {silent.hospital: silent.reason for silent in exchange.silent}

    def _receive(self, name: str, reply: Message) -> None:
        try:
            introduction = _read(reply)
            require_fit(introduction, name)
        except UpdateError as error:
            self._refused[name] = str(error)
            log.warning("%s was not let in: %s", name, error)
        else:
            self.introductions[name] = introduction
            log.info("%s takes part, with %d images", name, introduction.stats.total)

    def _absent(self, connected: set[str]) -> tuple[Refusal, ...]:
        reasons = dict.fromkeys(self.members - connected, "was not connected")
        reasons |= {name: f"was not let in: {why}" for name, why in self._refused.items() if name in connected}
        return tuple(Refusal(hospital=name, reason=reason) for name, reason in sorted(reasons.items()))


def _read(reply: Message) -> Introduction:
    if reply.has_error():
        raise UpdateError(f"it could not introduce itself: {reply.error.reason}")
    try:
        return Introduction.model_validate_json(str(reply.content.config_records[INTRODUCTION]["json"]))
    except (KeyError, ValueError) as error:
        raise UpdateError(f"its introduction cannot be read: {str(error).splitlines()[0]}") from None
