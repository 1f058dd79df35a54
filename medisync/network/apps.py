"""The two Flower apps that pyproject.toml names. The code does not travel: each side runs what is installed there."""

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
    """Each node is told its own file, by its own administrator."""
    return Path(str(context.node_config["hospital"]))


def _open(context: Context, image_size: int) -> tuple[str, HospitalData]:
    return node.open_images(_settings_file(context), image_size)


def _introduce(context: Context) -> Introduction:
    return node.read_introduction(_settings_file(context))


def _weight_cache_of(context: Context) -> FolderWeightCache:
    return FolderWeightCache(node.read_settings(_settings_file(context)).state / "weights")


def _with_memory_kept(message: Message, context: Context, call_next: Any) -> Message:
    """While a message is answered; in between, the hospital's machine has its memory back."""
    with memory_kept():
        reply: Message = call_next(message, context)
        return reply


client = client_app.build(_open, _introduce, mods=[_with_memory_kept, codec.packing_client(_weight_cache_of)])
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    from medisync.network import coordinator  # hospitals need none of it

    parent_watch.end_with()
    coordinator.conduct(grid, context.run_config)
