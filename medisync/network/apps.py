"""The two Flower apps that pyproject.toml names. Code does not travel: each side runs what is installed there."""

from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from medisync import parent_watch
from medisync.federation import client_app, codec
from medisync.model.device import memory_kept
from medisync.network import node
from medisync.network.weight_cache import FolderWeightCache
from medisync.schemas import Introduction
from medisync.training.dataset import HospitalData


def _settings_file(context: Context) -> Path:
    """Returns the path of hospital.toml, which the hospital's own command gave its node."""
    return Path(str(context.node_config["hospital"]))


def _open(context: Context, image_size: int) -> tuple[str, HospitalData]:
    return node.open_images(_settings_file(context), image_size)


def _introduce(context: Context) -> Introduction:
    return node.read_introduction(_settings_file(context))


def _weight_cache(context: Context) -> FolderWeightCache:
    return FolderWeightCache(node.read_settings(_settings_file(context)).state / "weights")


def _keeping_memory(message: Message, context: Context, call_next: Any) -> Message:
    """Keeps freed memory for reuse while a message is answered; in between, the hospital's machine has it back."""
    with memory_kept():
        reply: Message = call_next(message, context)
        return reply


client = client_app.build(_open, _introduce, mods=[_keeping_memory, codec.packing_client(_weight_cache)])
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    from medisync.network import coordinator  # hospitals do without it

    parent_watch.end_with()
    coordinator.run_federation(grid, context.run_config)
