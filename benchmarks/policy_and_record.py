"""What a hospital's policy and audit log add to a round: one training message and its answer, with and without them."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from medisync.config import FederationConfig, TrainingConfig
from medisync.federation import simulation
from medisync.federation.codec import pack, packing_client
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, TrainInstructions
from medisync.federation.update_store import in_place
from medisync.network import loopback
from medisync.network.audit_log import AuditLog
from medisync.network.enforcement import Desk, enforcing
from medisync.network.ledger import Ledger
from medisync.network.policy import Policy
from medisync.network.recording import recording
from medisync.network.run_request import REQUEST, RunRequest
from medisync.schemas import DatasetStats, HospitalAudit, Introduction, Location

ROUNDS = 600
REQUESTED = RunRequest(run="run-001", training=TrainingConfig(), federation=FederationConfig(rounds=ROUNDS))
SIZES = {45: "weights", 134: "weights and Adam's moments"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="messages of each size; the median counts")
    repeat = parser.parse_args().repeat
    print("| megabytes each way | | without | with policy and log | added |\n| --- | --- | --- | --- | --- |")
    for megabytes, what in SIZES.items():
        without, having = _medians(megabytes, repeat)
        print(f"| {megabytes} | {what} | {without:.3f} s | {having:.3f} s | {having - without:.3f} s |")


def _medians(megabytes: int, repeat: int) -> tuple[float, float]:
    """Returns the seconds of one exchange, without and with policy and log, measured in turns."""
    with tempfile.TemporaryDirectory() as folder, simulation._server_identity():
        plain, guarded = [packing_client()], _guarded(Path(folder))
        seconds = [(_seconds(plain, megabytes), _seconds(guarded, megabytes)) for _ in range(repeat)]
    without, having = zip(*seconds, strict=True)
    return statistics.median(without), statistics.median(having)


def _guarded(folder: Path) -> list[Any]:
    log, ledger = AuditLog(folder / "audit-log"), Ledger(folder / "ledger")
    desk = Desk(Policy.model_validate(loopback.TRIAL), ledger, _introduction(), log)
    return [recording(lambda _: log), packing_client(), enforcing(lambda _: desk, lambda: datetime.now(UTC))]


def _seconds(mods: list[Any], megabytes: int) -> float:
    arrays = in_place({"w": np.ones(megabytes * 250_000, np.float32)})
    instructions = TrainInstructions(REQUESTED.training, 1e-3, REQUESTED.training.image_size).to_record()
    config = ConfigRecord({**instructions, ROUND: 1})
    message = Message(pack(RecordDict({ARRAYS: arrays, CONFIG: config, REQUEST: REQUESTED.to_record()})), 2, "train")
    answer: Callable[[Message, Context], Message] = lambda received, _: Message(  # noqa: E731
        RecordDict({ARRAYS: arrays, METRICS: MetricRecord({COUNT: 1}), CONFIG: config}), reply_to=received
    )
    for mod in reversed(mods):
        answer = _around(mod, answer)
    begun = time.perf_counter()
    reply = answer(message, Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={}))
    seconds = time.perf_counter() - begun
    if reply.has_error():
        raise SystemExit(f"refused: {reply.error.reason}")
    return seconds


def _around(mod: Any, inner: Any) -> Any:
    return lambda message, context: mod(message, context, inner)


def _introduction() -> Introduction:
    counts = {"glioma": 500, "notumor": 500}
    place, splits = Location(lat=0, lon=0), {"train": counts}
    stats = DatasetStats(total=1000, class_distribution=counts, location=place, splits=splits)
    zeros = dict.fromkeys(("unresolved", "unreadable", "quarantined", "patients", "exact_copies", "near_copies"), 0)
    tables: dict[str, Any] = {"skipped": {}, "sizes": {}, "modes": {}, "folders": [], "notes": []}
    audit = HospitalAudit(path="", class_distribution=counts, total=1000, **zeros, **tables)
    return Introduction(
        hospital="North", version="", labels=[], synthetic=True, dataset_id="d", stats=stats, audit=audit
    )


if __name__ == "__main__":
    main()
