"""Client registration: which hospitals are connected to a networked federation, and whether they run its code."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from medisync.errors import FederationError, UpdateError
from medisync.federation.messages import POLL_SECONDS, Participants, Reply, ask
from medisync.schemas import LABELS, Introduction, Refusal
from medisync.version import software

log = logging.getLogger(__name__)

HELLO = "hello"
INTRODUCTION = "introduction"
HELLO_SECONDS = 120.0
"""A node that does not introduce itself within this time does not take part in the round."""

AWAITS_APPROVAL = "waits for approval"
"""In the error of a hospital whose administrator has yet to approve the run. It is asked again, and may join later."""
ASK_AGAIN_SECONDS = 60.0


def to_record(introduction: Introduction) -> RecordDict:
    return RecordDict({INTRODUCTION: ConfigRecord({"json": introduction.model_dump_json()})})


def require_fit(introduction: Introduction, name: str) -> None:
    """Raises UpdateError if the hospital is not the one its key is registered for, or has other code or classes."""
    if introduction.hospital != name:
        raise UpdateError(f"its key is registered for {name}, but it calls itself {introduction.hospital}")
    if introduction.version != software():
        raise UpdateError(f"it runs medisync {introduction.version}, this server {software()}; install the same")
    if introduction.labels != list(LABELS):
        raise UpdateError(f"its classes are {', '.join(introduction.labels)}, expected {', '.join(LABELS)}")


@dataclass
class ClientRegistration:
    """Registers hospitals as they connect and introduce themselves; pass `find_participants` to the federation.

    A node is asked to introduce itself again after it has reconnected: another program may be behind the same key.
    """

    grid: Grid
    members: frozenset[str]
    """Names of the hospitals that may take part."""
    at_least: int
    """Number of hospitals without which no round begins."""
    patience: float
    """Seconds to wait for that many hospitals."""
    introductions: dict[str, Introduction] = field(default_factory=dict)
    """Introductions of all hospitals that were ever accepted, by name."""
    _refused: dict[str, str] = field(default_factory=dict)
    """Reasons by name."""
    _asked: dict[int, str] = field(default_factory=dict)
    """Nodes that were asked to introduce themselves, with the time at which they had connected."""
    _awaiting: dict[str, float] = field(default_factory=dict)
    """Refused hospitals that await approval, with the time at which they said so."""

    def gather(self, seconds: float) -> None:
        """Waits at most `seconds` until every member has been accepted or refused."""
        end = time.monotonic() + seconds
        while (
            len(self._update().hospitals) + len(self._refused.keys() - self._awaiting) < len(self.members)
            and time.monotonic() < end
        ):
            time.sleep(POLL_SECONDS)

    def find_participants(self) -> Participants:
        """Returns the accepted, connected hospitals. Raises FederationError if they are too few when patience ends."""
        end = time.monotonic() + self.patience
        while len((participants := self._update()).hospitals) < self.at_least:
            if time.monotonic() >= end:
                reasons = "; ".join(f"{each.hospital} {each.reason}" for each in participants.absent)
                raise FederationError(
                    f"{len(participants.hospitals)} hospitals take part, at least {self.at_least} are needed"
                    f" ({reasons}); start `medisync federation hospital` there, then go on with --resume"
                )
            time.sleep(POLL_SECONDS)
        return participants

    def _update(self) -> Participants:
        connected = {node.node_id: node for node in self.grid.get_nodes() if node.name in self.members}
        names = {number: str(node.name) for number, node in connected.items()}
        newcomers = {n: name for n, name in names.items() if self._asked.get(n) != connected[n].last_activated_at}
        due = time.monotonic() - ASK_AGAIN_SECONDS
        self._register(newcomers | {n: name for n, name in names.items() if self._awaiting.get(name, math.inf) <= due})
        self._asked |= {number: node.last_activated_at for number, node in connected.items()}
        accepted = {number: name for number, name in names.items() if name not in self._refused}
        return Participants(accepted, self._absent(set(names.values())))

    def _register(self, newcomers: Mapping[int, str]) -> None:
        if not newcomers:
            return
        messages = [Message(RecordDict(), node, f"{MessageType.QUERY}.{HELLO}") for node in newcomers]
        exchange = ask(self.grid, messages, newcomers, HELLO_SECONDS)
        self._refused = {name: why for name, why in self._refused.items() if name not in newcomers.values()}
        for reply in exchange.replies:
            self._check(reply)
        self._refused |= {silent.hospital: silent.reason for silent in exchange.silent}

    def _check(self, reply: Reply) -> None:
        try:
            introduction = _read(reply)
            require_fit(introduction, reply.hospital)
        except UpdateError as error:
            self._refuse(reply, str(error))
        else:
            self._awaiting.pop(reply.hospital, None)
            self.introductions[reply.hospital] = introduction
            log.info("%s takes part, with %d images", reply.hospital, introduction.stats.total)
            for note in introduction.audit.notes:
                log.info("%s: %s", reply.hospital, note)

    def _refuse(self, reply: Reply, why: str) -> None:
        self._refused[reply.hospital] = why
        awaited, awaits = self._awaiting.pop(reply.hospital, None), AWAITS_APPROVAL in reply.error
        if awaits:
            self._awaiting[reply.hospital] = time.monotonic()
        if not (awaits and awaited):
            log.warning("%s was not let in: %s", reply.hospital, why)

    def _absent(self, connected: set[str]) -> tuple[Refusal, ...]:
        reasons = dict.fromkeys(self.members - connected, "was not connected")
        reasons |= {name: f"was not let in: {why}" for name, why in self._refused.items() if name in connected}
        return tuple(Refusal(hospital=name, reason=reason) for name, reason in sorted(reasons.items()))


def _read(reply: Reply) -> Introduction:
    if reply.error:
        raise UpdateError(f"it could not introduce itself: {reply.error}")
    try:
        return Introduction.model_validate_json(str(reply.content.config_records[INTRODUCTION]["json"]))
    except (KeyError, ValueError) as error:
        raise UpdateError(f"its introduction cannot be read: {str(error).splitlines()[0]}") from None
