"""The two Flower apps that pyproject.toml names. Code does not travel: each side runs what is installed there."""

from datetime import datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from medisync import parent_watch
from medisync.federation import client_app, codec
from medisync.model.device import memory_kept
from medisync.network import enforcement, node, recording, release, settings
from medisync.network.audit_log import AuditLog
from medisync.network.enforcement import Desk
from medisync.network.ledger import Ledger
from medisync.network.weight_cache import FolderWeightCache
from medisync.schemas import Introduction
from medisync.training.dataset import HospitalData


def _settings_file(context: Context) -> Path:
    """Returns the path of hospital.toml, which the hospital's own command gave its node."""
    return Path(str(context.node_config["hospital"]))


def _open(context: Context, image_size: int) -> tuple[str, HospitalData]:
    return node.open_images(_settings_file(context), image_size)


def _introduce(context: Context) -> Introduction:
    """Returns the introduction without the counts that the policy keeps at the hospital."""
    return release.told(node.read_introduction(_settings_file(context)), _smallest_count(context))


def _smallest_count(context: Context) -> int:
    return settings.read_policy(_settings_file(context)).release.smallest_count


def _weight_cache(context: Context) -> FolderWeightCache:
    return FolderWeightCache(node.read_settings(_settings_file(context)).state / "weights")


def _keeping_memory(message: Message, context: Context, call_next: Any) -> Message:
    """Keeps freed memory for reuse while a message is answered; in between, the hospital's machine has it back."""
    with memory_kept():
        reply: Message = call_next(message, context)
        return reply


def _audit_log(context: Context) -> AuditLog:
    return AuditLog(node.read_settings(_settings_file(context)).audit_log)


def _desk(context: Context) -> Desk:
    """Returns what decides on a message; policy.toml is read anew for each."""
    file = _settings_file(context)
    return Desk(
        settings.read_policy(file),
        Ledger(node.read_settings(file).ledger),
        node.read_introduction(file),
        _audit_log(context),
    )


client = client_app.build(
    _open,
    _introduce,
    fewest_of_a_class=_smallest_count,
    mods=[
        recording.recording(_audit_log),
        _keeping_memory,
        codec.packing_client(_weight_cache),
        enforcement.enforcing(_desk, lambda: datetime.now().astimezone()),
    ],
)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    from medisync.network import coordinator  # hospitals do without it

    parent_watch.end_with()
    coordinator.run_federation(grid, context.run_config)
