"""The federation in one process: a Flower grid without Ray and without sockets, one hospital at a time on one device.

What this file uses beyond Flower's public API was read in flwr 1.41, and any other version is refused: a message needs
an id, which otherwise the SuperLink gives it, and a process-wide task identity.
"""

import contextlib
import logging
import os
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from medisync.config import Configuration
from medisync.federation import client_app, codec, server_app, update_store
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.flower_version import require_checked
from medisync.federation.messages import CLIENT_RAISED, Participants
from medisync.federation.observer import TrainingObserver
from medisync.federation.plan import FederationPlan
from medisync.model.device import memory_kept
from medisync.training.dataset import HospitalData

log = logging.getLogger(__name__)

SERVER_NODE = 1


class InProcessGrid(Grid):
    """Delivers each message by calling the client app, when its reply is asked for."""

    def __init__(self, app: ClientApp, nodes: Mapping[int, Mapping[str, str]]) -> None:
        require_checked()
        self._app = app
        self._run = Run.create_empty(run_id=1)
        self._questions: dict[str, Message] = {}
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in sorted(nodes.items())
        }

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self._contexts)

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node) for node in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        questions = {uuid.uuid4().hex: message for message in messages}
        self._questions |= questions
        return list(questions)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yields each reply as it is made, so that no two of them need to be in memory at once."""
        for name in list(message_ids):
            if name in self._questions:
                yield self._deliver(self._questions.pop(name), name)

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> list[Message]:
        return list(self.pull_messages(self.push_messages(messages)))

    def _deliver(self, message: Message, identity: str) -> Message:
        """Returns the client's reply; an exception becomes an error reply, as on the network, but not Ctrl-C."""
        node = message.metadata.dst_node_id
        incoming = Message(_copy(message.content), node, message.metadata.message_type)
        incoming.metadata.__dict__["_message_id"] = identity
        try:
            return self._app(incoming, self._contexts[node])
        except Exception as error:  # whatever a hospital does, the round goes on
            log.debug("node %d raised", node, exc_info=True)
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(code=CLIENT_RAISED, reason=reason), reply_to=incoming)


def _copy(content: RecordDict) -> RecordDict:
    """Returns new records with the same arrays, so that no node sees what another adds to the records or takes out.

    The arrays are shared: a client app changes nothing that it was sent, and a copy of a model is 45 MB for every
    message.
    """
    return RecordDict({name: _copied(record) for name, record in content.items()})


def _copied(record: ArrayRecord | ConfigRecord | MetricRecord) -> ArrayRecord | ConfigRecord | MetricRecord:
    if isinstance(record, ArrayRecord):
        return update_store.record(dict(record))
    return type(record)(dict(record))  # type: ignore[arg-type]


@contextlib.contextmanager
def _server_identity() -> Iterator[None]:
    """Sets the task identity that Flower requires to build a message, and restores the old one afterwards."""
    names = ("_run_id", "_node_id", "_task_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SERVER_NODE, 0
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


def run_apps(server: ServerApp, client: ClientApp, nodes: Mapping[int, Mapping[str, str]]) -> Context:
    """Runs a server app with a client app in this process and returns the server's context.

    Flower samples participants with the process's random generator, which is restored afterwards.
    """
    context = Context(run_id=1, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={})
    random_state = random.getstate()
    try:
        with _server_identity():
            server(InProcessGrid(client, nodes), context)
    finally:
        random.setstate(random_state)
    return context


def simulate(
    hospitals: Mapping[str, HospitalData],
    configuration: Configuration,
    *,
    resumed: Checkpoint | None = None,
    observer: TrainingObserver | None = None,
) -> server_app.Outcome:
    """Runs a whole federation in this process, with the server and client apps of a networked one."""
    logging.getLogger("flwr").setLevel(logging.WARNING)  # its 30 lines a round say what ours say in one
    names = dict(enumerate(sorted(hospitals), start=SERVER_NODE + 1))
    nodes = {node: {"hospital": name} for node, name in names.items()}

    def open_hospital(context: Context, image_size: int) -> tuple[str, HospitalData]:  # noqa: ARG001
        name = str(context.node_config["hospital"])
        return name, hospitals[name]

    outcomes: list[server_app.Outcome] = []
    transport = configuration.federation.transport
    rounding = transport != "float32"
    cache = codec.MemoryWeightCache()
    mods = [codec.packing_client(lambda context: cache)] if rounding else []
    server, client = ServerApp(), client_app.build(open_hospital, observer=observer, mods=mods)

    @server.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
        plan = FederationPlan(configuration.training, configuration.federation)
        grid = codec.PackingGrid(grid, transport) if rounding else grid
        participants = Participants(names)
        outcomes.append(server_app.federate(grid, lambda: participants, plan, observer=observer, resumed=resumed))

    with memory_kept():
        run_apps(server, client, nodes)
    return outcomes[0]
