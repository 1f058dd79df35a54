"""Measures the server's memory in a round by the number of hospitals, with made-up updates of a ResNet18 and no images.

    .venv/bin/python benchmarks/server_memory.py [--hospitals 3 20 100]

Runs a round of federated averaging for each number of hospitals, in a process of its own. Measures anonymous memory (RssAnon
of /proc/self/status, every 5 ms) above what the process has before the round, in models of 45 MB. Hospitals make their
updates in the same process, so their part counts too. Pages of files, in which updates wait, are not counted: the system
reclaims them when it needs them.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.config import FederationConfig, TrainingConfig
from medisync.federation import simulation
from medisync.federation.broadcast import Broadcast
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    COUNT,
    METRICS,
    ROUND,
    Participants,
    array_bytes,
    arrays_from_state,
)
from medisync.federation.plan import FederationPlan
from medisync.federation.server_app import run_round
from medisync.federation.strategy import build_strategy
from medisync.federation.update_store import UpdateStore
from medisync.model.resnet import build_resnet18

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table and writes it beside this file; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", nargs="+", type=int, default=[3, 20, 100])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(options.one)))
        return 0
    rows = [_in_its_own_process(count) for count in options.hospitals]
    lines = ["| hospitals | peak over the base, models | seconds |", "| --- | --- | --- |"]
    lines += [f"| {row['hospitals']} | {row['models']:.1f} | {row['seconds']:.1f} |" for row in rows]
    table = "\n".join(lines) + "\n"
    print(table)
    (HERE / "server_memory.md").write_text(table, encoding="utf-8")
    (HERE / "server_memory.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _in_its_own_process(hospitals: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(hospitals)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(hospitals: int) -> dict[str, Any]:
    """Runs one round with that many hospitals and returns its seconds and memory."""
    names = {node: f"hospital {node}" for node in range(2, 2 + hospitals)}
    start = arrays_from_state(build_resnet18().state_dict())
    server, client = ServerApp(), _client()
    found: dict[str, Any] = {"hospitals": hospitals}

    @server.main()
    def main(inner: Grid, context: Context) -> None:  # noqa: ARG001
        config = FederationConfig(validate_every=2, round_deadline=3600)
        plan = FederationPlan(TrainingConfig(), config).plan_round(1, Participants(names))
        strategy = build_strategy(config, plan)
        with Watch() as watch:
            began = time.monotonic()
            run_round(inner, strategy, plan, Broadcast(start), UpdateStore())
            found["seconds"] = time.monotonic() - began
        found["models"] = watch.peak / array_bytes(RecordDict({ARRAYS: start}))

    simulation.run_apps(server, client, {node: {} for node in names})
    return found


def _client() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        drawn = np.random.default_rng(context.node_id)
        arrays = message.content.array_records[ARRAYS]
        changed = ArrayRecord({key: Array(_changed(array.numpy(), drawn)) for key, array in arrays.items()})
        figures = MetricRecord({COUNT: 100, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0})
        round_number = message.content.config_records[CONFIG][ROUND]
        content = RecordDict({ARRAYS: changed, METRICS: figures, CONFIG: ConfigRecord({ROUND: round_number})})
        return Message(content, reply_to=message)

    return app


def _changed(values: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
    return values if values.dtype.kind == "i" else (values + np.float32(1e-3) * drawn.random(dtype=np.float32))


class Watch:
    """Peak of this process's anonymous memory while the block lasts, in bytes above what it had before."""

    def __enter__(self) -> "Watch":
        self.base, self.peak = _anonymous(), 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, _anonymous() - self.base)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


if __name__ == "__main__":
    sys.exit(main())
