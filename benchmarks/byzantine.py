"""Measures what one hostile hospital of five does to the global model, by attack and by strategy, on phantoms.

    python benchmarks/byzantine.py

Prints a Markdown table and writes it beside this file: accuracy on 2000 phantoms that no hospital has, and what the record
says about the hostile hospital. Twenty-four federations of three minutes on one core. `--attacks` and `--strategies` select
some of them; the other rows stay as they were measured before.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync import notebook
from medisync.config import DEMO_PARAMETERS
from medisync.federation import client_app, server_app, simulation
from medisync.federation.messages import ARRAYS, CONFIG, ROUND, Participants
from medisync.federation.plan import FederationPlan
from medisync.federation.server_app import Outcome
from medisync.imaging.preprocessing import standardise
from medisync.model import adam
from medisync.model.device import select_device
from medisync.phantom.scanner import draw_slice
from medisync.phantom.styles import STYLES
from medisync.schemas import LABELS
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import predict_images

HERE = Path(__file__).parent
SIDE = 64
HOSTILE = "Hostile"
UNSEEN = 2000
STRATEGIES = ("fedavg", "fedmedian", "trimmed-mean", "krum")
SETTINGS: Mapping[str, Any] = {
    **DEMO_PARAMETERS,
    "IMAGE_SIZE": SIDE,
    "NORMALISATION": "group",
    "ADAM_MOMENTS": "shared",
    "LEARNING_RATE": 2e-3,
    "LOCAL_EPOCHS": 0.5,
    "ROUNDS": 16,
    "PATIENCE": 16,
    "VALIDATE_EVERY": 2,
    "MALICIOUS_HOSPITALS": 1,
}
"""The published run's settings: short rounds with shared Adam moments."""

State = dict[str, torch.Tensor]
Tamper = Callable[[State, State], State]
"""Maps the weights received and the weights trained to the weights returned."""


def _scaled(factor: float) -> Tamper:
    """Returns an attack that scales the update by `factor`, Adam's moments included.

    Variances stay non-negative, because an update with a negative one would be refused.
    """

    def change(key: str, sent: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        if key.startswith(adam.FIRST):
            return factor * trained
        if key.startswith(adam.SECOND):
            return factor**2 * trained
        changed = sent + factor * (trained - sent)
        return changed.clamp_min(0) if key.endswith("running_var") else changed

    return lambda sent, trained: {
        key: change(key, sent[key], tensor) if tensor.is_floating_point() else tensor for key, tensor in trained.items()
    }


ATTACKS: Mapping[str, Tamper | None] = {
    "none": None,
    "times 100": _scaled(100),
    "sign flipped": _scaled(-1),
    "labels flipped": None,
    "zeros": lambda sent, trained: {key: torch.zeros_like(tensor) for key, tensor in trained.items()},
    "not a number": _scaled(float("nan")),
    "stale round": None,
}
ALIKE: Mapping[str, str] = {"stale round": "not a number"}
"""Attacks that update validation refuses like another one, so they are not measured; tests/federation/test_byzantine.py
compares the weights."""

MEASURED = tuple(attack for attack in ATTACKS if attack not in ALIKE)


class HostileApp:
    """The hospitals' client app, with one hospital controlled by an attacker."""

    def __init__(self, app: ClientApp, node: int, attack: str) -> None:
        self._app, self._node, self._attack = app, node, attack

    def __call__(self, message: Message, context: Context) -> Message:
        sent = message.content.array_records[ARRAYS].to_torch_state_dict()
        reply = self._app(message, context)
        if context.node_id != self._node or message.metadata.message_type != "train":
            return reply
        if self._attack == "stale round":
            answered = int(reply.content.config_records[CONFIG][ROUND])  # type: ignore[arg-type]
            reply.content[CONFIG] = ConfigRecord({ROUND: answered - 1})
        if tamper := ATTACKS[self._attack]:
            trained = reply.content.array_records[ARRAYS].to_torch_state_dict()
            reply.content[ARRAYS] = ArrayRecord(tamper(dict(sent), dict(trained)))
        return reply


def simulate(hospitals: Mapping[str, HospitalData], attack: str, parameters: Mapping[str, Any]) -> Outcome:
    """Runs a simulated federation in which the hospital called HOSTILE carries out the attack."""
    configuration = notebook.configuration(parameters)
    names = dict(enumerate(sorted(hospitals), start=simulation.SERVER_NODE + 1))
    if attack == "labels flipped":
        hospitals = {**hospitals, HOSTILE: _with_flipped_labels(hospitals[HOSTILE])}
    client = client_app.build(lambda context, _: (names[context.node_id], hospitals[names[context.node_id]]))
    hostile = HostileApp(client, next(node for node, name in names.items() if name == HOSTILE), attack)
    server, outcomes = ServerApp(), []
    plan = FederationPlan(configuration.training, configuration.federation)

    @server.main()
    def main(deliver: Grid, context: Context) -> None:  # noqa: ARG001
        outcomes.append(server_app.federate(deliver, lambda: Participants(names), plan))

    simulation.run_apps(server, hostile, {node: {} for node in names})  # type: ignore[arg-type]
    return outcomes[0]


def _with_flipped_labels(data: HospitalData) -> HospitalData:
    return {**data, "train": replace(data["train"], labels=(data["train"].labels + 1) % len(LABELS))}


def draw(count: int, seed: int, first_group: int = 0) -> ImageSet:
    """Returns standardised phantoms: classes in equal numbers, the styles of the three phantom hospitals in turn."""
    generator, styles = np.random.default_rng(seed), list(STYLES.values())
    slices = [draw_slice(LABELS[k % 4], style=styles[k // 4 % len(styles)], generator=generator) for k in range(count)]
    pixels = np.stack([standardise(each.image, SIDE) for each in slices])
    labels = np.array([LABELS.index(each.label) for each in slices], np.int64)
    return ImageSet(pixels, labels, np.arange(first_group, first_group + count, dtype=np.int64))


def draw_hospitals() -> dict[str, HospitalData]:
    """Returns four honest hospitals and HOSTILE, with 288 training images each."""
    sizes = {"train": 288, "val": 48, "test": 8}
    return {
        name: {split: draw(count, 10 * number + place) for place, (split, count) in enumerate(sizes.items())}
        for number, name in enumerate(("East", HOSTILE, "North", "South", "West"))
    }


def said_of(outcome: Outcome, name: str = HOSTILE) -> str:
    """Returns in how many rounds the record names the hospital, and the first reason given."""
    found = [
        (entry.epoch, each.reason)
        for entry in outcome.history
        for each in [*entry.refused, *entry.remarks]
        if each.hospital == name
    ]
    rounds = len({epoch for epoch, _ in found})
    return f"{rounds} of {len(outcome.history)} rounds: {found[0][1]}" if found else "nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--attacks", nargs="+", choices=MEASURED, default=MEASURED, metavar="ATTACK", help=", ".join(MEASURED)
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES, metavar="STRATEGY")
    options = parser.parse_args(arguments)
    hospitals, unseen = draw_hospitals(), draw(UNSEEN, seed=999)
    settings = {**SETTINGS, "SEED": options.seed}
    rows = [
        row
        for row in saved_rows(settings)
        if row["attack"] not in options.attacks or row["strategy"] not in options.strategies
    ]
    for attack in options.attacks:
        for strategy in options.strategies:
            rows.append(measure(hospitals, unseen, attack, {**settings, "STRATEGY": strategy}))
            save(rows, settings)
    return 0


def saved_rows(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows measured before with the same settings."""
    file = HERE / "byzantine.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"settings": None}
    rows: list[dict[str, Any]] = content["rows"] if content["settings"] == settings else []
    return rows


def measure(
    hospitals: Mapping[str, HospitalData], unseen: ImageSet, attack: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    started = time.monotonic()
    outcome = simulate(hospitals, attack, parameters)
    logits = predict_images(outcome.state, unseen, select_device("auto")).logits
    others = [name for name in hospitals if name != HOSTILE and said_of(outcome, name) != "nothing"]
    return {
        "attack": attack,
        "strategy": parameters["STRATEGY"],
        "accuracy": float((logits.argmax(axis=1) == unseen.labels).mean()),
        "said": said_of(outcome),
        "honest_named": {name: said_of(outcome, name) for name in others},
        "seconds": round(time.monotonic() - started),
    }


def save(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Prints the table so far and writes it to disk."""
    accuracy = {(row["attack"], row["strategy"]): row["accuracy"] for row in rows}
    lines = [["attack", *STRATEGIES, "what the record says about it, under fedavg"], ["---"] * (len(STRATEGIES) + 2)]
    for attack in (attack for attack in MEASURED if any(found == attack for found, _ in accuracy)):
        cells = [_cell(accuracy, attack, strategy) for strategy in STRATEGIES]
        said = next((row["said"] for row in rows if (row["attack"], row["strategy"]) == (attack, "fedavg")), "")
        lines.append([", ".join([attack, *(other for other, same in ALIKE.items() if same == attack)]), *cells, said])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(f"\n{table}", flush=True)
    caption = f"Accuracy in percent on {UNSEEN} phantoms, and the difference in points from no attack; one seed"
    (HERE / "byzantine.md").write_text(f"{caption} (`python benchmarks/byzantine.py`).\n\n{table}\n", encoding="utf-8")
    (HERE / "byzantine.json").write_text(
        json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


def _cell(accuracy: Mapping[tuple[str, str], float], attack: str, strategy: str) -> str:
    if (attack, strategy) not in accuracy:
        return ""
    found, unattacked = 100 * accuracy[attack, strategy], accuracy.get(("none", strategy))
    return (
        f"{found:.1f}" if attack == "none" or unattacked is None else f"{found:.1f} ({found - 100 * unattacked:+.1f})"
    )


if __name__ == "__main__":
    sys.exit(main())
