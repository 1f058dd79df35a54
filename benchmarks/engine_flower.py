"""The federation of engines.py as Flower apps, under MediSync's grid or under Flower's simulation engine with Ray.

    .venv/bin/python benchmarks/engine_flower.py --grid ours|flower --folder FOLDER [--rounds 3] [--images IMAGES]

engines.py starts it, draws the images and says where Ray is installed. Both grids run the same server and client; without
images the client returns the weights that it received. Writes the last round's weights to FOLDER/weights.pth.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import engines
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.config import FederationConfig
from medisync.federation import client_app, messages, server_app, simulation
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, Participants, arrays_from_state
from medisync.federation.observer import TrainingObserver
from medisync.federation.plan import FederationPlan
from medisync.model.resnet import build_resnet18
from medisync.training.dataset import HospitalData

PARTITION = "partition-id"
"""Flower's name for the number of a simulated node."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the federation; returns 0. Raises RuntimeError if a hospital was missing in a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=("ours", "flower"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=engines.ROUNDS)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    server = build_server(options.rounds, options.folder / "weights.pth")
    client = client_app.build(partial(open_hospital, options.images)) if options.images else build_idle_client()
    if options.grid == "ours":
        simulation.run_apps(
            server, client, {2 + number: {PARTITION: str(number)} for number in range(len(engines.HOSPITALS))}
        )
    else:
        simulate(server, client, options.folder)
    return 0


def build_server(rounds: int, file: Path) -> ServerApp:
    """Returns a server that runs the rounds with validation after each, without calibration and test."""
    server, federation = (
        ServerApp(),
        FederationConfig(rounds=rounds, patience=rounds, validate_every=1, normalisation="averaged"),
    )

    @server.main()
    def main(members: Grid, context: Context) -> None:  # noqa: ARG001
        participants = Participants({node: f"node {node}" for node in await_nodes(members)})
        start = arrays_from_state(
            build_resnet18(engines.TRAINING.normalisation, seed=engines.TRAINING.seed).state_dict()
        )
        end = server_app.run_rounds(
            members,
            lambda: participants,
            FederationPlan(engines.TRAINING, federation),
            Checkpoint(start, start),
            TrainingObserver(),
        )
        if problems := [refusal for entry in end.history for refusal in entry.refused]:
            raise RuntimeError(f"expected every hospital in every round, but some were refused: {problems}")
        torch.save(dict(end.arrays.to_torch_state_dict()), file)

    return server


def await_nodes(members: Grid) -> Sequence[int]:
    """Waits for the hospitals' nodes, which Flower registers after it has started the server."""
    while len(nodes := list(members.get_node_ids())) < len(engines.HOSPITALS):
        time.sleep(0.05)
    return nodes


def open_hospital(images: Path, context: Context, image_size: int) -> tuple[str, HospitalData]:  # noqa: ARG001
    name = engines.HOSPITALS[int(str(context.node_config[PARTITION]))]
    return name, engines.open_hospital(images, name)


def build_idle_client() -> ClientApp:
    """Returns a client that has nothing to compute.

    Its functions use no module of medisync, so a process that runs only them need not import torch.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:  # noqa: ARG001
        figures = MetricRecord({COUNT: 1, "loss": 0.0, "accuracy": 0.0, "seconds": 0.0})
        said = ConfigRecord({ROUND: message.content.config_records[CONFIG][ROUND]})
        arrays = message.content.array_records[ARRAYS]
        return Message(RecordDict({ARRAYS: arrays, METRICS: figures, CONFIG: said}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:  # noqa: ARG001
        figures = MetricRecord({COUNT: 1, "loss": 0.0, "accuracy": 0.0})
        return Message(RecordDict({METRICS: figures}), reply_to=message)

    return app


def simulate(server: ServerApp, client: ClientApp, folder: Path) -> None:
    """Runs one client at a time with all cores, as MediSync's grid does.

    On two cores that is faster than two clients with a core each, which start two processes that import torch.
    """
    from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
    from flwr.simulation import run_simulation

    messages.POLL_SECONDS = 0.1  # as often as Flower's own grid polls; ours never waits
    cores = os.cpu_count() or 1
    setting: BackendConfig = {
        "init_args": {"num_cpus": cores, "_temp_dir": str(folder / "ray"), "log_to_driver": False},
        "client_resources": {"num_cpus": cores},
    }
    run_simulation(server, client, len(engines.HOSPITALS), backend_config=setting)


if __name__ == "__main__":
    sys.exit(main())
