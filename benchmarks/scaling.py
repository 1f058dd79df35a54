"""How the cost of a federation grows: with hospitals that share the same images, with images, with rounds.

    python benchmarks/scaling.py [--repeats 2] [--side 224]

Prints a Markdown table and writes it, with every figure as JSON, beside this file. Each line is a process of its own, on noise.
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
from medisync.cli.common import DEMO_PARAMETERS
from medisync.federation import simulation
from medisync.model.device import describe_device, select_device

HERE = Path(__file__).parent
BATCH, IMAGES, HOSPITALS = 16, 4549, 3
"""A federation like the published one: as many images to train on, all hospitals together."""


@dataclass(frozen=True)
class Case:
    """A federation to measure, and what is compared in its line."""

    grows: str
    hospitals: int = HOSPITALS
    images: int = IMAGES
    rounds: int = 0
    """0: as many as are repeated."""


CASES = (
    *(Case("hospitals", hospitals=count) for count in (3, 10, 30, 100)),
    *(Case("images", images=count) for count in (240, 960, 3840)),
    Case("rounds", images=12, rounds=60),
)
TINY = 32
"""Pixels a side where it is rounds that are many."""


@dataclass(frozen=True)
class Cost:
    """Of one federation."""

    seconds: list[float]
    """Of each round but the first."""
    megabytes: float
    """Of memory that is no file's, at most."""


@dataclass
class Peak:
    """The most that was seen so far."""

    megabytes: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Looks at this process twenty times a second. Updates that wait in files are not counted: the system takes such memory back
    when it needs any.
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
        keep(CASES[: len(costs)], costs, options)
    return 0


def measure(case: Case, side: int, repeats: int) -> Cost:
    """A federation on noise, in this process."""
    rounds = 1 + (case.rounds or repeats)
    parameters = {
        **DEMO_PARAMETERS,
        "IMAGE_SIZE": side,
        "BATCH_SIZE": BATCH,
        "ROUNDS": rounds,
        "PATIENCE": rounds,
    }
    hospitals, configuration = noise.hospitals(side, dealt(case)), notebook.configuration(parameters)
    with peak_memory() as peak:
        outcome = simulation.simulate(hospitals, configuration)
    return Cost([entry.seconds for entry in outcome.history][1:], peak.megabytes)


def dealt(case: Case) -> dict[str, int]:
    """The images of each hospital: as many as of any other, or one more."""
    cuts = [number * case.images // case.hospitals for number in range(case.hospitals + 1)]
    return {f"Hospital {number:03d}": cuts[number] - cuts[number - 1] for number in range(1, case.hospitals + 1)}


def keep(cases: Sequence[Case], costs: Sequence[Cost], options: argparse.Namespace) -> None:
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
    device = describe_device(select_device("auto"))
    command = f"python benchmarks/scaling.py --repeats {options.repeats} --side {options.side}"
    table = "\n".join([f"On {device}, images of {options.side} pixels (`{command}`).", "", *lines])
    print(f"\n{table}", flush=True)
    (HERE / "scaling.md").write_text(f"{table}\n", encoding="utf-8")
    rows = [{**asdict(case), **asdict(cost)} for case, cost in zip(cases, costs, strict=True)]
    (HERE / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _of_rounds(case: Case, cost: Cost) -> str:
    """The last ten rounds against the first ten."""
    early, late = statistics.median(cost.seconds[:10]), statistics.median(cost.seconds[-10:])
    what = f"{case.rounds} rounds of {case.images} tiny images: the last ten against the first ten"
    return f"| {what} | {late:.2f} s | {late / early:.2f} | {cost.megabytes:.0f} MB |"


if __name__ == "__main__":
    sys.exit(main())
