"""Measures one federation under three engines: MediSync's grid, Flower's simulation with Ray, NVIDIA FLARE's simulator.

    .venv/bin/python benchmarks/engines.py [--repeats 5] [--images 24]

Three hospitals, three rounds, ResNet18 on the CPU. Under every engine a hospital trains and validates with medisync.training,
from the same weights, on the same images of noise, with the same seeds. `--images` is the mean number of training images of a
hospital, at 224 pixels; it validates a third as many. A hospital that returns the weights that it received is always measured
too: that is the engine alone. A run is a whole process, from the start of python to its exit; the engines take turns. Memory is
the proportional set size of the process and all its children, sampled twice a second.

MediSync's and Flower's engines run the same ServerApp and ClientApp (engine_flower.py), FLARE's runs the same functions in a
script of its client API (engine_flare.py). After one round, with one thread each, their weights must agree to within SAME,
because only the order of a float sum may differ. Later rounds cannot be compared: Adam's first steps are as long for a gradient
of 1e-9 as for one of 1, so even MediSync's weights with one thread and with two diverge as far.

Each engine has the setting that was fastest in single runs on two busy cores, see SETTINGS. For FLARE, one or two threads a
process made no difference without training; with training they were not compared. What the other engines need beyond the lock
is installed on first use into .cache/bench. Prints a table and writes it, with every measurement, to results/engines.json.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from medisync.config import TrainingConfig
from medisync.schemas import LABELS
from medisync.training.dataset import HospitalData, ImageSet

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "bench"
RESULT = HERE / "results" / "engines.json"

RAY, MESSAGE_PACK, FLARE, PROTOBUF = "2.55.1", "1.2.4", "2.9.0", "7.36.2"
PACKAGES = {
    "flower": ["--no-deps", f"ray=={RAY}", f"msgpack=={MESSAGE_PACK}"],
    "flare": [f"nvflare=={FLARE}", f"protobuf=={PROTOBUF}", f"numpy=={np.__version__}"],
}
"""Packages beside this environment's own: Ray's other needs are met by it, FLARE brings its own, numpy stays torch's."""

COMMANDS = {
    "ours": ["engine_flower.py", "--grid", "ours"],
    "flower": ["engine_flower.py", "--grid", "flower"],
    "flare": ["engine_flare.py"],
}
TITLES = {
    "ours": "MediSync's grid",
    "flower": f"Flower's simulation, Ray {RAY}",
    "flare": f"FLARE {FLARE}'s simulator",
}
SETTINGS = {
    "ours": "one process, one hospital at a time, torch's own number of threads",
    "flower": "Ray with all cores, one client at a time with all of them",
    "flare": "a process for each hospital, all at once, torch's own number of threads each, tensors sent as tensors",
}
WORKLOADS = ("training", "no training")

HOSPITALS = ("North", "South", "West")
ROUNDS = 3
SAME = 1e-5
"""Largest difference of weights after one round; a step changes weights by 1e-4, and running statistics by up to 1."""
LIMIT = 3600.0
"""Seconds after which a run has failed."""
IMAGES, SIZE = 24, 224
TRAINING = TrainingConfig(
    image_size=SIZE,
    image_size_schedule="constant",
    batch_size=16,
    steps_per_epoch=0,
    learning_rate=1e-4,
    learning_rate_schedule="constant",
    local_epochs=1,
    adam_moments="fresh",
    weight_decay=0.0,
    mixup=0.0,
    missing_class_prior=0.3,
    normalisation="averaged",
    device="cpu",
)

Rows = list[dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and saves; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of every engine and workload (default: 5)")
    parser.add_argument(
        "--images", type=int, default=IMAGES, help="training images of a hospital; 0: no training at all"
    )
    options = parser.parse_args(arguments)
    rows = measure(options.repeats, options.images)
    print(markdown(rows))
    save(rows)
    return 0


def measure(repeats: int, images: int = IMAGES) -> Rows:
    """Returns a row for each workload and engine: seconds, memory, processes, distance of one round's weights from MediSync's.

    Raises RuntimeError if the engines did not compute the same.
    """
    install()
    for engine in COMMANDS:
        run(engine)  # the first run reads everything from disk and does not count
    return [
        row for workload in WORKLOADS if images or workload == "no training" for row in _rows(workload, repeats, images)
    ]


def install() -> None:
    """Installs what the engines need and lack, compiled: otherwise each of their processes would compile it again."""
    for engine, packages in PACKAGES.items():
        target = CACHE / engine
        done = target / "installed.txt"
        wanted = "\n".join(packages)
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            continue
        uv = ["uv", "pip", "install", "--python", sys.executable, "--target", str(target), "--compile-bytecode"]
        subprocess.run([sys.executable, "-m", *uv, *packages], check=True)
        done.write_text(wanted, encoding="utf-8")


# Workload


def draw_hospitals(folder: Path, images: int) -> None:
    """Writes images of noise for each hospital; hospitals differ in size, so an unweighted mean would be noticed."""
    generator = np.random.default_rng(0)
    for number, hospital in enumerate(HOSPITALS):
        counts = {"train": images + (number - 1) * images // 6, "val": images // 3}
        for split, count in counts.items():
            np.save(_file(folder, hospital, split), generator.integers(0, 256, (count, SIZE, SIZE), np.uint8))


def open_hospital(folder: Path, hospital: str) -> HospitalData:
    """Returns the images of a hospital, read from its files when needed."""
    return {split: _open_set(_file(folder, hospital, split)) for split in ("train", "val")}


def _open_set(file: Path) -> ImageSet:
    pixels = np.load(file, mmap_mode="r")
    return ImageSet(pixels, np.arange(len(pixels)) % len(LABELS), np.arange(len(pixels)))


def _file(folder: Path, hospital: str, split: str) -> Path:
    return folder / f"{hospital}-{split}.npy"


# Measurement


@dataclass(frozen=True)
class Run:
    """The cost and the result of one process, from its start to its exit."""

    seconds: float
    memory: int
    """Peak memory of the process and its children together, in bytes."""
    processes: int
    """Largest number of processes at once."""
    state: Mapping[str, torch.Tensor]
    """The last round's global weights."""


def _rows(workload: str, repeats: int, images: int) -> Rows:
    runs: dict[str, list[Run]] = {engine: [] for engine in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        drawn = Path(name) if workload == "training" else None
        if drawn:
            draw_hospitals(drawn, images)
        apart = compare(drawn)
        for turn in range(repeats):
            for engine, found in runs.items():
                found.append(run(engine, drawn))
                print(f"{workload}, turn {turn + 1}, {engine}: {found[-1].seconds:.1f} s", file=sys.stderr)
    return [_row(workload, engine, found, runs["ours"], apart[engine]) for engine, found in runs.items()]


def compare(images: Path | None) -> dict[str, float]:
    """Returns the largest difference between each engine's weights and MediSync's after one round with one thread.

    Leaves out counters of batches, which FLARE averages and MediSync does not. Raises RuntimeError if a difference is larger
    than the order of a sum explains.
    """
    states = {engine: run(engine, images, rounds=1, threads=1).state for engine in COMMANDS}
    floats = [key for key, tensor in states["ours"].items() if tensor.is_floating_point()]
    apart = {
        engine: max(float((state[key] - states["ours"][key]).abs().max()) for key in floats)
        for engine, state in states.items()
    }
    if max(apart.values()) > SAME:
        raise RuntimeError(
            f"the engines did not compute the same: their weights differ from MediSync's by {apart}, expected at most {SAME}"
        )
    return apart


def run(engine: str, images: Path | None = None, rounds: int = ROUNDS, threads: int | None = None) -> Run:
    """Runs a federation under an engine in a folder of its own; without images nothing is trained.

    Raises RuntimeError with the end of its log if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        folder = Path(name)
        script, *words = COMMANDS[engine]
        command = [sys.executable, str(HERE / script), *words, "--folder", str(folder), "--rounds", str(rounds)]
        command += ["--images", str(images)] if images else []
        environment = _environment(engine, folder) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        with (folder / "log.txt").open("w+", encoding="utf-8") as log:
            started = time.perf_counter()
            process = psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            memory, processes = watch(process)
            seconds = time.perf_counter() - started
            log.seek(0)
            if process.returncode or not (folder / "weights.pth").exists():
                raise RuntimeError(f"{engine} failed, with exit status {process.returncode}: {log.read()[-4000:]}")
        return Run(seconds, memory, processes, torch.load(folder / "weights.pth", weights_only=True))


def _environment(engine: str, folder: Path) -> dict[str, str]:
    """Returns an engine's environment variables.

    No telemetry, no self-update, Flower's home in the run's folder, and Ray's workers at the priority of the other engines.
    """
    settings = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder / "flwr"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    paths = [str(CACHE / engine), str(HERE)] if engine in PACKAGES else []
    return {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)}


def watch(process: psutil.Popen) -> tuple[int, int]:
    """Waits for a process, at most LIMIT seconds; returns the peak bytes and the largest number of processes of its tree."""
    memory, processes, end = 0, 0, time.monotonic() + LIMIT
    tree: list[psutil.Process] = [process]
    try:
        while _is_running(process) and time.monotonic() < end:
            tree = [process, *process.children(recursive=True)]
            memory, processes = max(memory, sum(map(_bytes_of, tree))), max(processes, len(tree))
    finally:
        for left in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()  # leftovers would disturb the measurement of the next engine
    process.wait()
    return memory, processes


def _is_running(process: psutil.Popen) -> bool:
    """True if the process is still running after half a second."""
    try:
        process.wait(0.5)
    except psutil.TimeoutExpired:
        return True
    return False


def _bytes_of(process: psutil.Process) -> int:
    """Returns a process's proportional set size, in which shared pages count in part; 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    return 1024 * int(rollup.split("\nPss:")[1].split()[0])


def _row(workload: str, engine: str, runs: Sequence[Run], ours: Sequence[Run], apart: float) -> dict[str, Any]:
    seconds = [each.seconds for each in runs]
    return {
        "name": f"{workload}: {TITLES[engine]}",
        "workload": workload,
        "engine": engine,
        "unit": "s",
        "median": statistics.median(seconds),
        "values": seconds,
        "ratio": statistics.median(each.seconds for each in ours) / statistics.median(seconds),
        "memory_bytes": statistics.median(each.memory for each in runs),
        "processes": max(each.processes for each in runs),
        "apart_after_one_round": apart,
    }


# Results


def markdown(rows: Rows) -> str:
    """Returns a table with a line for each row."""
    lines = [
        "| workload | engine | median, s | fastest, slowest | MediSync / it | memory, GB | processes | difference after one round |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        spread = f"{min(row['values']):.1f}, {max(row['values']):.1f}"
        figures = f"{row['median']:.1f} | {spread} | {row['ratio']:.2f} | {row['memory_bytes'] / 1e9:.1f}"
        same = f"{row['processes']} | {row['apart_after_one_round']:.0e}"
        lines.append(f"| {row['workload']} | {TITLES[row['engine']]} | {figures} | {same} |")
    return "\n".join(lines) + "\n"


def save(rows: Rows) -> None:
    """Writes every measurement to disk."""
    RESULT.parent.mkdir(exist_ok=True)
    content = {
        "command": " ".join(["python benchmarks/engines.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "settings": SETTINGS,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
