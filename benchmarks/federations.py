"""Compares choices by whole federations on the splits of one run, with everything else equal.

    python benchmarks/federations.py normalisation --workspace DIR --run run-001 -p IMAGE_SIZE 64
    python benchmarks/federations.py label-skew --workspace DIR --run run-001 -p IMAGE_SIZE 64
    python benchmarks/federations.py label-skew --dirichlet 0.1 --workspace DIR --run run-001 -p IMAGE_SIZE 64

Prints a Markdown table and writes it, with every figure as JSON, beside this file. Reads validation images only: what is
selected with these tables must not have seen the test images.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medisync import notebook
from medisync.cli.common import parse_value
from medisync.federation import baselines, simulation
from medisync.model.device import select_device
from medisync.model.weights import State
from medisync.schemas import LABELS, SPLITS
from medisync.training.dataset import HospitalData, ImageSet, open_hospitals
from medisync.training.local import predict_images
from medisync.workspace import artifacts

HERE = Path(__file__).parent
CHOICES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "normalisation": {
        "BatchNorm, statistics averaged": {"NORMALISATION": "averaged"},
        "BatchNorm, each hospital's own statistics": {"NORMALISATION": "local"},
        "GroupNorm, kernels standardised": {"NORMALISATION": "group"},
    },
    "label-skew": {
        "plain cross-entropy": {"MISSING_CLASS_PRIOR": 1.0},
        "prior 0.3": {"MISSING_CLASS_PRIOR": 0.3},
        "prior 0.1": {"MISSING_CLASS_PRIOR": 0.1},
        "prior 0.01": {"MISSING_CLASS_PRIOR": 0.01},
    },
    "strategy": {
        "FedAvg": {},
        "FedProx, mu 0.1": {"STRATEGY": "fedprox", "PROXIMAL_MU": 0.1},
        "FedAvgM": {"STRATEGY": "fedavgm", "SERVER_MOMENTUM": 0.5},
        "FedAdam": {"STRATEGY": "fedadam", "SERVER_LEARNING_RATE": 0.001},
        "FedYogi": {"STRATEGY": "fedyogi", "SERVER_LEARNING_RATE": 0.001},
        "FedMedian": {"STRATEGY": "fedmedian"},
    },
    "transport": {
        "weights in 32 bits": {},
        "weights in 16 bits": {"TRANSPORT": "float16"},
        "changes in 4 bits": {"TRANSPORT": "compact"},
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one comparison; returns 0."""
    options = _parse(arguments)
    fixed = {name: parse_value(text) for name, text in options.parameters}
    hospitals = open_chosen_hospitals(options, fixed)
    rows: list[dict[str, Any]] = []
    for name, choice in CHOICES[options.comparison].items():
        for seed in options.seeds:
            rows.append({"choice": name, "seed": seed, **run(hospitals, {**fixed, **choice, "SEED": seed})})
            save(options, fixed, rows)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=CHOICES)
    parser.add_argument("--workspace", help="folder with the run and the scans")
    parser.add_argument("--run", required=True, help="the run whose splits to use")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one federation each (default: 0)")
    parser.add_argument("--dirichlet", type=float, help="redistribute the images with this concentration")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    return parser.parse_args(arguments)


def open_chosen_hospitals(options: argparse.Namespace, fixed: Mapping[str, Any]) -> dict[str, HospitalData]:
    """Returns the images of the run's splits, at their hospitals or redistributed."""
    workspace = artifacts.locate(options.workspace)
    split = artifacts.read(workspace.artifacts / options.run, artifacts.SPLITS)
    size = notebook.configuration(fixed).training.image_size
    hospitals = open_hospitals(split, workspace.dataset, size, workspace.cache)
    return hospitals if options.dirichlet is None else deal(hospitals, options.dirichlet, np.random.default_rng(0))


def deal(
    hospitals: Mapping[str, HospitalData], concentration: float, generator: np.random.Generator
) -> dict[str, HospitalData]:
    """Redistributes each class's groups in fractions drawn from Dirichlet(concentration), one draw for all splits.

    Hsu et al. 2019, https://arxiv.org/abs/1909.06335. A group goes where its first image's class goes.
    """
    names = sorted(hospitals)
    fractions = generator.dirichlet([concentration] * len(names), size=len(LABELS))
    pools = baselines.pool(hospitals)
    owners = {split: _owners(pools[split], fractions, generator) for split in SPLITS}
    return {
        name: {split: _select(pools[split], owners[split] == number) for split in SPLITS}
        for number, name in enumerate(names)
    }


def _owners(data: ImageSet, fractions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    _, first, member = np.unique(data.groups, return_index=True, return_inverse=True)
    drawn = [generator.choice(fractions.shape[1], p=fractions[label]) for label in data.labels[first]]
    return np.array(drawn)[member]


def _select(data: ImageSet, chosen: np.ndarray) -> ImageSet:
    return ImageSet(data.pixels[chosen], data.labels[chosen], data.groups[chosen])


def run(hospitals: Mapping[str, HospitalData], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Runs one federation and returns the validation figures of its selected round."""
    started = time.monotonic()
    outcome = simulation.simulate(hospitals, notebook.configuration(parameters))
    about = {"best_round": outcome.best_round, "seconds": round(time.monotonic() - started)}
    return {**_validation({name: outcome.state_at(name) for name in hospitals}, hospitals), **about}


def _validation(states: Mapping[str, State], hospitals: Mapping[str, HospitalData]) -> dict[str, Any]:
    """Returns the figures of the model that each hospital uses."""
    device = select_device("auto")
    right, recall = {}, np.zeros((2, len(LABELS)))
    for name, data in hospitals.items():
        correct = predict_images(states[name], data["val"], device).logits.argmax(axis=1) == data["val"].labels
        right[name] = float(correct.mean()) if len(correct) else None
        recall += [np.bincount(data["val"].labels, weights, minlength=len(LABELS)) for weights in (correct, None)]
    by_class = {label: float(recall[0, k] / recall[1, k]) for k, label in enumerate(LABELS) if recall[1, k]}
    return {"accuracy": float(recall[0].sum() / recall[1].sum()), "hospitals": right, "recall": by_class}


def save(options: argparse.Namespace, fixed: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the table so far and writes it to disk: a federation takes minutes, and the next may fail."""
    name = options.comparison + (f"-dirichlet-{options.dirichlet:g}" if options.dirichlet is not None else "")
    settings = ", ".join(f"{key} {value}" for key, value in fixed.items())
    table = f"{name}: validation accuracy in percent ({settings})\n\n{_markdown(rows)}\n"
    print(table)
    (HERE / f"{name}.md").write_text(table, encoding="utf-8")
    content = {"command": " ".join(["python benchmarks/federations.py", *_public(sys.argv[1:])]), "rows": rows}
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _public(arguments: Sequence[str]) -> list[str]:
    """Returns the command without this machine's path."""
    at = arguments.index("--workspace") + 1 if "--workspace" in arguments else -1
    return ["DIR" if number == at else word for number, word in enumerate(arguments)]


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    hospitals, labels = list(rows[0]["hospitals"]), list(rows[0]["recall"])
    head = ["choice", "seed", "all", *hospitals, *(f"sensitivity, {label}" for label in labels), "seconds"]
    lines = [
        [
            row["choice"],
            row["seed"],
            _percent(row["accuracy"]),
            *(_percent(row["hospitals"][hospital]) for hospital in hospitals),
            *(_percent(row["recall"].get(label)) for label in labels),
            row["seconds"],
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, ["---"] * len(head), *lines])


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


if __name__ == "__main__":
    sys.exit(main())
