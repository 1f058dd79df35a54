"""Measures what the network adds to a round: one federation in this process, and over TLS on loopback with a process tree each.

    .venv/bin/python benchmarks/network.py [--rounds 5] [--scale 0.05] [--transport float16]

ResNet18 on tiny phantoms at 32 pixels, so that hardly any of a round is training: what remains is packing, TLS, Flower's
queues and its processes. Prints a table and writes it, with every round, beside this file. The first round is left out,
because it waits for imports.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medisync import notebook
from medisync.config import DEMO_PARAMETERS
from medisync.data import audit, splits
from medisync.federation import simulation
from medisync.network import loopback
from medisync.phantom.hospitals import write_hospitals
from medisync.training.dataset import open_hospitals
from medisync.workspace import artifacts

HERE = Path(__file__).parent
TARGET_SECONDS = 8.0
TINY = {**DEMO_PARAMETERS, "IMAGE_SIZE": 32, "DEVICE": "cpu"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures both ways; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--scale", type=float, default=0.05, help="size of the phantom hospitals (default: about 150 images)"
    )
    parser.add_argument(
        "--transport", choices=["float32", "float16"], default="float32", help="number format of the weights on the way"
    )
    options = parser.parse_args(arguments)
    order = {**TINY, "ROUNDS": options.rounds, "PATIENCE": options.rounds, "TRANSPORT": options.transport}
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        workspace = artifacts.locate(name)
        write_hospitals(workspace.dataset, seed=0, scale=options.scale)
        rounds = {"in one process": in_process(workspace, order), "over the network": over_network(workspace, order)}
    save(rounds)
    return 0


def in_process(workspace: artifacts.Workspace, order: Mapping[str, Any]) -> list[float]:
    """Returns the seconds of each round of a simulation in this process."""
    configuration = notebook.configuration(order)
    audited = audit.audit_hospitals(configuration.hospitals, workspace.dataset, workspace.cache)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    size = configuration.training.image_size
    hospitals = open_hospitals(split, workspace.dataset, size, workspace.cache)
    return [entry.seconds for entry in simulation.simulate(hospitals, configuration).history]


def over_network(workspace: artifacts.Workspace, order: Mapping[str, Any]) -> list[float]:
    """Returns the seconds of each round of `medisync federation local`."""
    name = loopback.run(workspace, order)
    return [entry.seconds for entry in artifacts.read(workspace.artifacts / name, artifacts.HISTORY)]


def save(rounds: Mapping[str, Sequence[float]]) -> None:
    """Prints the table and writes it, with every round, to disk."""
    medians = {place: statistics.median(seconds[1:] or seconds) for place, seconds in rounds.items()}
    alone, networked = medians.values()
    lines = ["| | median round, s | slowest, s |", "| --- | --- | --- |"]
    lines += [
        f"| {place} | {medians[place]:.1f} | {max(seconds[1:] or seconds):.1f} |" for place, seconds in rounds.items()
    ]
    table = (
        "\n".join([*lines, f"| added by the network | {networked - alone:.1f} (target: {TARGET_SECONDS:g}) | |"]) + "\n"
    )
    print(table)
    (HERE / "network.md").write_text(table, encoding="utf-8")
    content = {
        "command": " ".join(["python benchmarks/network.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "overhead_seconds": networked - alone,
        "rounds": {place: list(seconds) for place, seconds in rounds.items()},
    }
    (HERE / "network.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
