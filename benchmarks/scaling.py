"""Measures how the cost of a federation scales with hospitals (that share the same images), with images and with rounds.

    python benchmarks/scaling.py [--repeats 2] [--side 224]

Prints a Markdown table and writes it, with every figure as JSON, beside this file. Each case runs in a process of its own,
on images of noise.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import noise

from medisync import notebook, parent_watch
from medisync.config import DEMO_PARAMETERS
from medisync.federation import simulation
from medisync.model.device import describe_device, select_device

HERE = Path(__file__).parent
BATCH, IMAGES, HOSPITALS = 16, 4549, 3
"""The published run's size: the number of training images of all hospitals together, and of hospitals."""


@dataclass(frozen=True)
class Case:
    """One federation to measure."""

    grows: str
    """The key of the comparison: cases with the same value share a baseline."""
    hospitals: int = HOSPITALS
    images: int = IMAGES
    rounds: int = 0
    """Measured rounds; 0 for `--repeats`."""


CASES = (
    *(Case("hospitals", hospitals=count) for count in (3, 10, 30, 100)),
    *(Case("images", images=count) for count in (240, 960, 3840)),
    Case("rounds", images=12, rounds=60),
)
TINY = 32
"""Side in pixels of the images in the case with many rounds."""


@dataclass(frozen=True)
class Cost:
    """The cost of one federation."""

    seconds: list[float]
    """Seconds of each round except the first."""
    megabytes: float
    """Peak of anonymous memory (pages of files excluded)."""


@dataclass
class Peak:
    """The largest value seen so far."""

    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Yields the peak of this process's anonymous memory, sampled twenty times a second.

    Updates that wait in files are not counted: the system reclaims such memory when it needs it.
    """
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            peak.megabytes = max(peak.megabytes, int(status.split("RssAnon:")[1].split()[0]) / 1024)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="rounds measured, after a first one (default: 2)")
    parser.add_argument("--side", type=int, default=224, help="pixels (default: 224)")
    options = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    costs: list[Cost] = []
    for case in CASES:
        with ProcessPoolExecutor(1, context, parent_watch.end_with, (os.getpid(),)) as pool:
            side = TINY if case.rounds else options.side
            costs.append(pool.submit(measure, case, side, options.repeats).result())
        save(CASES[: len(costs)], costs, options)
    return 0


def measure(case: Case, side: int, repeats: int) -> Cost:
    """Runs a federation on noise in this process and returns its cost."""
    rounds = 1 + (case.rounds or repeats)
    parameters = {
        **DEMO_PARAMETERS,
        "IMAGE_SIZE": side,
        "BATCH_SIZE": BATCH,
        "ROUNDS": rounds,
        "PATIENCE": rounds,
    }
    hospitals, configuration = noise.hospitals(side, deal(case)), notebook.configuration(parameters)
    with peak_memory() as peak:
        outcome = simulation.simulate(hospitals, configuration)
    return Cost([entry.seconds for entry in outcome.history][1:], peak.megabytes)


def deal(case: Case) -> dict[str, int]:
    """Returns the number of images of each hospital: equal, or one more."""
    cuts = [number * case.images // case.hospitals for number in range(case.hospitals + 1)]
    return {f"Hospital {number:03d}": cuts[number] - cuts[number - 1] for number in range(1, case.hospitals + 1)}


def save(cases: Sequence[Case], costs: Sequence[Cost], options: argparse.Namespace) -> None:
    """Prints the table so far and writes it to disk."""
    lines = ["| | a round | relative to the first of its kind | peak memory |", "| --- | --- | --- | --- |"]
    first: dict[str, float] = {}
    for case, cost in zip(cases, costs, strict=True):
        if case.grows == "rounds":
            lines += [_rounds_row(case, cost)]
            continue
        seconds = statistics.median(cost.seconds)
        times = seconds / first.setdefault(case.grows, seconds)
        what = f"{case.hospitals} hospitals, {case.images} images together"
        lines.append(f"| {what} | {seconds:.1f} s | {times:.2f} | {cost.megabytes:.0f} MB |")
    device = describe_device(select_device("auto"))
    command = f"python benchmarks/scaling.py --repeats {options.repeats} --side {options.side}"
    table = "\n".join([f"On {device}, images of {options.side} pixels (`{command}`).", "", *lines])
    print(f"\n{table}", flush=True)
    (HERE / "scaling.md").write_text(f"{table}\n", encoding="utf-8")
    rows = [{**asdict(case), **asdict(cost)} for case, cost in zip(cases, costs, strict=True)]
    (HERE / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _rounds_row(case: Case, cost: Cost) -> str:
    """Returns the row that compares the last ten rounds with the first ten."""
    early, late = statistics.median(cost.seconds[:10]), statistics.median(cost.seconds[-10:])
    what = f"{case.rounds} rounds of {case.images} tiny images: the last ten against the first ten"
    return f"| {what} | {late:.2f} s | {late / early:.2f} | {cost.megabytes:.0f} MB |"


if __name__ == "__main__":
    sys.exit(main())
