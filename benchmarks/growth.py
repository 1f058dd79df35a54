"""How the cost of a federation grows: with hospitals that share the same images, with images, with rounds.

    python benchmarks/growth.py [--repeats 3]

Prints a Markdown table and writes it, with every figure as JSON, beside this file. Each line is a process of its own, on noise.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import noise

from medisync import cli, model, notebook
from medisync.federation import grid

HERE = Path(__file__).parent
SIDE, BATCH, IMAGES, HOSPITALS = 224, 16, 960, 3
"""A federation like the published one: images to train on, all hospitals together."""


@dataclass(frozen=True)
class Case:
    """A federation to measure, and what is compared in its line."""

    grows: str
    hospitals: int = HOSPITALS
    images: int = IMAGES
    side: int = SIDE
    rounds: int = 0
    """0: as many as are repeated."""


CASES = (
    *(Case("hospitals", hospitals=count) for count in (3, 10, 30, 100)),
    *(Case("images", images=count) for count in (IMAGES // 4, IMAGES, 4 * IMAGES)),
    Case("rounds", images=12, side=32, rounds=60),
)


@dataclass(frozen=True)
class Cost:
    """Of one federation."""

    seconds: list[float]
    """Of each round but the first."""
    megabytes: float
    """Resident at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="rounds measured, after a first one (default: 3)")
    options = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    costs: list[Cost] = []
    for case in CASES:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            costs.append(pool.submit(measure, case, options.repeats).result())
        keep(CASES[: len(costs)], costs)
    return 0


def measure(case: Case, repeats: int) -> Cost:
    """A federation on noise, in this process."""
    rounds = 1 + (case.rounds or repeats)
    parameters = {
        **cli.DEMO_PARAMETERS,
        "IMAGE_SIZE": case.side,
        "BATCH_SIZE": BATCH,
        "ROUNDS": rounds,
        "PATIENCE": rounds,
    }
    outcome = grid.simulate(noise.hospitals(case.side, dealt(case)), notebook.configuration(parameters))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost([entry.seconds for entry in outcome.history][1:], peak)


def dealt(case: Case) -> dict[str, int]:
    """The images of each hospital: as many as of any other, or one more."""
    cuts = [number * case.images // case.hospitals for number in range(case.hospitals + 1)]
    return {f"Hospital {number:03d}": cuts[number] - cuts[number - 1] for number in range(1, case.hospitals + 1)}


def keep(cases: Sequence[Case], costs: Sequence[Cost]) -> None:
    """The table so far, on the terminal and on disk."""
    lines = ["| | a round | of the first line of its kind | memory at most |", "| --- | --- | --- | --- |"]
    first: dict[str, float] = {}
    for case, cost in zip(cases, costs, strict=True):
        if case.grows == "rounds":
            lines += [_of_rounds(case, cost)]
            continue
        seconds = statistics.median(cost.seconds)
        times = seconds / first.setdefault(case.grows, seconds)
        what = f"{case.hospitals} hospitals, {case.images} images together"
        lines.append(f"| {what} | {seconds:.1f} s | {times:.2f} | {cost.megabytes:.0f} MB |")
    device = model.describe_device(model.select_device("auto"))
    table = "\n".join([f"On {device}, images of {SIDE} pixels (`python benchmarks/growth.py`).", "", *lines])
    print(f"\n{table}", flush=True)
    (HERE / "growth.md").write_text(f"{table}\n", encoding="utf-8")
    rows = [{**asdict(case), **asdict(cost)} for case, cost in zip(cases, costs, strict=True)]
    (HERE / "growth.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _of_rounds(case: Case, cost: Cost) -> str:
    """The last ten rounds against the first ten."""
    early, late = statistics.median(cost.seconds[:10]), statistics.median(cost.seconds[-10:])
    what = f"{case.rounds} rounds of {case.images} tiny images: the last ten against the first ten"
    return f"| {what} | {late:.2f} s | {late / early:.2f} | {cost.megabytes:.0f} MB |"


if __name__ == "__main__":
    sys.exit(main())
