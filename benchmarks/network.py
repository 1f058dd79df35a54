"""Measures what the network adds to a round: one federation in this process, and over TLS on loopback with a process tree each.

    .venv/bin/python benchmarks/network.py [--rounds 8] [--scale 0.05] [--transports float32 float16 compact]

The published recipe (the notebook's defaults: shared moments, four steps a round) on tiny phantoms at 32 pixels, so that
hardly any of a round is training: what remains is packing, TLS, Flower's queues and its processes. Prints a table and
writes it, with every round, beside this file. The first round is left out, because it waits for imports. A round is not
validated unless it is the last.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from medisync import notebook
from medisync.config import Transport
from medisync.data import audit, splits
from medisync.federation import simulation
from medisync.network import loopback
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import HistoryEntry
from medisync.training.dataset import open_hospitals
from medisync.workspace import artifacts

HERE = Path(__file__).parent
TARGET_SECONDS = 4.0
TINY = {"IMAGE_SIZE": 32, "IMAGE_SIZE_SCHEDULE": "constant", "DEVICE": "cpu"}

Measured = Mapping[str, Sequence[HistoryEntry]]
"""Rounds by the place where they ran: in one process first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures both ways; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument(
        "--scale", type=float, default=0.05, help="size of the phantom hospitals (default: about 150 images)"
    )
    parser.add_argument(
        "--transports",
        nargs="+",
        choices=get_args(Transport),
        default=["float32", "compact"],
        help="forms of the weights",
    )
    options = parser.parse_args(arguments)
    order = {**TINY, "ROUNDS": options.rounds, "PATIENCE": options.rounds}
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        workspace = artifacts.locate(name)
        write_hospitals(workspace.dataset, seed=0, scale=options.scale)
        found = {transport: measure(workspace, {**order, "TRANSPORT": transport}) for transport in options.transports}
    save(found)
    return 0


def measure(workspace: artifacts.Workspace, order: Mapping[str, Any]) -> Measured:
    return {"in one process": in_process(workspace, order), "over the network": over_network(workspace, order)}


def in_process(workspace: artifacts.Workspace, order: Mapping[str, Any]) -> list[HistoryEntry]:
    """Returns the rounds of a simulation in this process."""
    configuration = notebook.configuration(order)
    audited = audit.audit_hospitals(configuration.hospitals, workspace.dataset, workspace.cache)
    split = splits.split(audited, configuration.splits, configuration.hospitals)
    size = configuration.training.image_size
    hospitals = open_hospitals(split, workspace.dataset, size, workspace.cache)
    return simulation.simulate(hospitals, configuration).history


def over_network(workspace: artifacts.Workspace, order: Mapping[str, Any]) -> list[HistoryEntry]:
    """Returns the rounds of `medisync federation local`."""
    name = loopback.run(workspace, order)
    return artifacts.read(workspace.artifacts / name, artifacts.HISTORY)


def save(found: Mapping[str, Measured]) -> None:
    """Prints the table and writes it, with every round, to disk."""
    lines = ["| transport | in one process, s | over the network, s | added, s | to a hospital, MB | from it, MB |"]
    lines += ["| --- | --- | --- | --- | --- | --- |", *(row(transport, each) for transport, each in found.items())]
    table = "\n".join([*lines, "", f"Medians of a round; at most {TARGET_SECONDS:g} s are to be added."]) + "\n"
    print(table)
    (HERE / "network.md").write_text(table, encoding="utf-8")
    content = {
        "command": " ".join(["python benchmarks/network.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "rounds": {
            transport: {place: [entry.seconds for entry in rounds] for place, rounds in places.items()}
            for transport, places in found.items()
        },
    }
    (HERE / "network.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def row(transport: str, measured: Measured) -> str:
    alone, networked = (statistics.median(entry.seconds for entry in rounds[1:]) for rounds in measured.values())
    scores = [scores for entry in measured["over the network"][1:] for scores in entry.hospitals.values()]
    down, up = (
        statistics.mean(sizes) / 1e6 for sizes in zip(*((s.bytes_down, s.bytes_up) for s in scores), strict=True)
    )
    return f"| {transport} | {alone:.1f} | {networked:.1f} | {networked - alone:.1f} | {down:.1f} | {up:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
