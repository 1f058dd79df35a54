"""Measures how fast the program is, compared with what the same machine can do: `make bench`.

    .venv/bin/python benchmarks/speed.py [--repeats 5] [--only training prediction onnxruntime orchestration engines audit large-audit start-up]

Every comparison is measured in turns, A B A B, in one run, and reported as the ratio of the medians, so both sides see the same
load. Prints a table and writes it, with every measurement and the machine, to results/latest.md and latest.json. Parts left out
by `--only` stay as they were measured before.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import engines
import noise
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from medisync import notebook
from medisync.config import DEMO_PARAMETERS
from medisync.data import audit
from medisync.data.cache import open_cache
from medisync.data.fingerprints import fingerprint_file
from medisync.data.parallel import map_files
from medisync.errors import ImageError
from medisync.federation import client_app, simulation
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.observer import TrainingObserver
from medisync.imaging.decoding import decode
from medisync.imaging.preprocessing import normalise
from medisync.inference import export, folders, predictor
from medisync.model.device import describe_device, memory_kept, select_device
from medisync.model.resnet import build_resnet18, forward, restore_for_training
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import LABELS
from medisync.training.dataset import ImageSet
from medisync.training.local import RoundInstructions, train_locally
from medisync.workspace import artifacts

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SIZE, BATCH = 224, 32
TARGETS = {
    "training_vs_bare_step": 0.95,
    "training_vs_plain_loop": 2.5,
    "wall_vs_flower_simulation": 0.8,
    "wall_vs_flare_simulator": 0.8,
    "orchestration_share": 0.02,
    "prediction_vs_bare_forward": 1.15,
    "batch_prediction_vs_bare_forward": 0.9,
    "wall_vs_flower_simulation_without_training": 0.35,
    "wall_vs_flare_simulator_without_training": 0.35,
    "orchestration_seconds_per_round": 0.5,
    "audit_again_vs_first": 20,
}
"""Targets of the ratios: minima for those in AT_LEAST, maxima for the others."""
AT_LEAST = (
    *("training_vs_bare_step", "training_vs_plain_loop"),
    *("batch_prediction_vs_bare_forward", "audit_again_vs_first"),
)

Rows = list[dict[str, Any]]
Ratios = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the chosen parts; returns 0."""
    options = _parse(arguments)
    results = _saved()
    for name in options.only:
        rows, ratios = PARTS[name](options.repeats)
        results["parts"][name] = {
            "command": f"python benchmarks/speed.py --only {name}",
            "machine": machine(),
            "rows": rows,
        }
        results["ratios"] |= ratios
        save(results)
    print(markdown(results))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every measurement (default: 5)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    return parser.parse_args(arguments)


def machine() -> str:
    """Returns the processor's name, its cores, and the device and version of torch."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
    return f"{name}, {os.cpu_count()} cores, {describe_device(select_device('auto'))}, torch {torch.__version__}"


def in_turns(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of each action, measured in turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(repeats + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def per_second(name: str, seconds: Sequence[float], count: int, unit: str = "images/s") -> dict[str, Any]:
    """Returns a row: how many of `count` items were done in a second, as the median, with every measurement."""
    rates = [count / each for each in seconds]
    return {"name": name, "unit": unit, "median": statistics.median(rates), "values": rates}


def lasting(name: str, seconds: Sequence[float]) -> dict[str, Any]:
    """Returns a row: how long something took, as the median, with every measurement."""
    return {"name": name, "unit": "s", "median": statistics.median(seconds), "values": list(seconds)}


# Training


def measure_training(repeats: int) -> tuple[Rows, Ratios]:
    """Measures a hospital's part of a round, the bare step on one batch that stays in memory, and a tutorial's loop."""
    with phantom_hospital(3 * BATCH) as (data, files):
        labels = data.labels.tolist()
        actions = {
            "bare step": lambda: bare_steps(3),
            "a hospital's part of a round": lambda: our_loop(data),
            "plain loop": lambda: plain_loop(files, labels),
        }
        seconds = in_turns(actions, repeats)
    rows = [per_second(name, each, 3 * BATCH) for name, each in seconds.items()]
    bare, ours, plain = (row["median"] for row in rows)
    return rows, {"training_vs_bare_step": ours / bare, "training_vs_plain_loop": ours / plain}


@contextmanager
def phantom_hospital(count: int) -> Iterator[tuple[ImageSet, list[Path]]]:
    """Yields standardised images in a cache on disk, and the JPEG files of 512 pixels that they were decoded from."""
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        files = write_scans(Path(name), count)
        known = [(file, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
        pixels = open_cache(known, SIZE, Path(name) / "cache")
        labels = np.arange(count) % len(LABELS)
        yield ImageSet(pixels, labels, np.arange(count)), files


def write_scans(folder: Path, count: int) -> list[Path]:
    """Writes grey JPEG files of 512 x 512 pixels: phantom scans, enlarged and rotated, so that no two show one slice."""
    workspace = artifacts.locate(folder)
    write_hospitals(workspace.dataset, seed=0, scale=0.1)
    drawn = [image for image in map(_open_phantom, sorted(workspace.dataset.rglob("*.jpg"))) if image]
    target = folder / "scans" / "glioma"
    target.mkdir(parents=True)
    for number in range(count):
        turned = drawn[number % len(drawn)].rotate(7 * (number // len(drawn)), Image.Resampling.BILINEAR)
        turned.save(target / f"{number:05}.jpg", quality=92)
    return sorted(target.iterdir())


def _open_phantom(file: Path) -> Image.Image | None:
    """Returns a phantom's image; None for files that are damaged on purpose."""
    try:
        return Image.fromarray(decode(file.read_bytes()).pixels).convert("L").resize((512, 512))
    except ImageError:
        return None


def bare_steps(steps: int) -> None:
    """Runs steps on one batch: forward, backward and fused Adam, in the device's fastest precision and memory format."""
    device = select_device("auto")
    network = restore_for_training(build_resnet18("averaged").state_dict(), device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    batch = torch.rand(BATCH, 3, SIZE, SIZE).to(device.kind, memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device=device.kind) % len(LABELS)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(forward(network, batch, device), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    float(loss.detach())  # waits for a GPU


def our_loop(data: ImageSet) -> None:
    """Does what a hospital does between two messages, from the weights received to the weights returned."""
    train_locally(
        build_resnet18().state_dict(),
        data,
        RoundInstructions(notebook.configuration({**DEMO_PARAMETERS, "BATCH_SIZE": BATCH}).training, 1e-3),
        generator=torch.Generator().manual_seed(0),
        device=select_device("auto"),
    )


class Files(Dataset[tuple[torch.Tensor, int]]):
    """Files that are opened, decoded and resized in every epoch, as in torchvision's tutorials."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int]) -> None:
        self.files, self.labels = files, labels
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        steps = [transforms.Resize((SIZE, SIZE)), transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)]
        self.prepare = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, deviation)])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.prepare(image.convert("RGB")), self.labels[index]


def plain_loop(files: Sequence[Path], labels: Sequence[int]) -> None:
    """Trains as in a tutorial: one worker, float32, contiguous channels, the loss read after every step."""
    device = select_device("auto").kind
    network = models.resnet18(num_classes=len(LABELS)).to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    total = 0.0
    for batch, wanted in DataLoader(Files(files, labels), batch_size=BATCH, shuffle=True, num_workers=0):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(batch.to(device)), wanted.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.item()


# Prediction


def measure_prediction(repeats: int) -> tuple[Rows, Ratios]:
    """Measures the published model on single files and on a folder, against its forward pass alone and decoding."""
    folder = artifacts.list_runs(artifacts.locate(HERE.parent))[0].folder
    classifier = predictor.open_run(folder)
    with phantom_hospital(4 * BATCH) as (_, files):
        content = files[0].read_bytes()
        one, many = resident(classifier, 1), resident(classifier, folders.BATCH)
        single = in_turns(
            {
                "one image: bare forward and decoding": lambda: (decode(content), one()),
                "one image: prediction": lambda: predictor.predict(classifier, content),
            },
            8 * repeats,
        )
        folder_of = {
            "a folder: bare forward": lambda: [many() for _ in range(len(files) // folders.BATCH)],
            "a folder: prediction": lambda: list(folders.predict_files(classifier, files)),
        }
        batch = in_turns(folder_of, repeats)
    rows = [lasting(name, each) for name, each in single.items()]
    rows += [per_second(name, each, len(files)) for name, each in batch.items()]
    bare, ours, bare_rate, our_rate = (row["median"] for row in rows)
    return rows, {"prediction_vs_bare_forward": ours / bare, "batch_prediction_vs_bare_forward": our_rate / bare_rate}


def resident(classifier: predictor.Classifier, count: int) -> Callable[[], object]:
    """Returns the network's forward pass on a normalised batch that is in memory already."""
    pixels = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8, device=classifier.device.kind)
    batch = normalise(pixels)

    def run() -> float:
        with torch.inference_mode():
            return float(forward(classifier.network, batch, classifier.device).sum())

    return run


def measure_onnxruntime(repeats: int) -> tuple[Rows, Ratios]:
    """Measures the exported network in onnxruntime (float32, as many threads) against this program, on the same images.

    Memory is kept, as for a folder of scans. onnxruntime's threads must not spin while torch works: torch would seem half as
    fast.
    """
    import onnxruntime  # type: ignore[import-untyped]

    classifier = predictor.open_run(artifacts.locate(HERE.parent).models)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    program = onnxruntime.InferenceSession(export.to_onnx(classifier), options, providers=["CPUExecutionProvider"])
    rows, ratios = [], {}
    for count, times in ((1, 8 * repeats), (folders.BATCH, repeats)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE), np.uint8)
        actions = {
            "this program": partial(predictor.forward, classifier, pixels),
            "onnxruntime": partial(program.run, ["logits", "features"], {"pixels": pixels}),
        }
        with memory_kept():
            seconds = in_turns(actions, times)
        found = [lasting(f"{count} x 224 x 224 pixels: {name}", each) for name, each in seconds.items()]
        ratios[f"onnxruntime_vs_torch_{count}"] = found[1]["median"] / found[0]["median"]
        rows += found
    return rows, ratios


# Orchestration


def measure_orchestration(repeats: int) -> tuple[Rows, Ratios]:
    """Measures what a round of three hospitals costs beyond training and evaluation.

    Once at 224 pixels with as many images as a hospital of the demonstration has, and once with hardly any training.
    """
    real, tiny = (rounds_of(size, count, repeats) for size, count in ((SIZE, 8 * BATCH), (32, 4)))
    rows = [
        lasting("round at 224 pixels, 256 images a hospital", [whole for whole, _ in real]),
        lasting("round at 224 pixels: beside training and evaluation", [whole - work for whole, work in real]),
        lasting("round without training to speak of: beside it", [whole - work for whole, work in tiny]),
    ]
    return rows, {
        "orchestration_share": rows[1]["median"] / rows[0]["median"],
        "orchestration_seconds_per_round": rows[2]["median"],
    }


def rounds_of(size: int, count: int, rounds: int) -> list[tuple[float, float]]:
    """Returns for each round except the first its seconds, and the seconds of training and evaluation in it."""
    parameters = {**DEMO_PARAMETERS, "IMAGE_SIZE": size, "BATCH_SIZE": BATCH}
    configuration = notebook.configuration({**parameters, "ROUNDS": rounds + 1, "PATIENCE": rounds + 1})
    hospitals = noise.hospitals(size, dict.fromkeys(("North", "South", "West"), count))
    work, marks = [0.0], []

    class Marks(TrainingObserver):
        def round_validated(self, checkpoint: Checkpoint) -> None:  # noqa: ARG002
            marks.append(work[0])

    with timed("train_locally", work), timed("predict_images", work):
        outcome = simulation.simulate(hospitals, configuration, observer=Marks())
    spent = np.diff([0.0, *marks]).tolist()
    return list(zip([entry.seconds for entry in outcome.history], spent, strict=True))[1:]


@contextmanager
def timed(name: str, seconds: list[float]) -> Iterator[None]:
    """Adds up in `seconds[0]` the time of a function that the client app calls."""
    function = getattr(client_app, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[0] += time.perf_counter() - started

    with mock.patch.object(client_app, name, wrapped):
        yield


# Engines


def measure_engines(repeats: int) -> tuple[Rows, Ratios]:
    """Measures one federation under MediSync's grid, Flower's simulation engine and FLARE's simulator, as processes."""
    rows = engines.measure(repeats)
    medians = {(row["workload"], row["engine"]): row["median"] for row in rows}
    ratios = {}
    for engine, name in (("flower", "wall_vs_flower_simulation"), ("flare", "wall_vs_flare_simulator")):
        for workload, suffix in (("training", ""), ("no training", "_without_training")):
            ratios[name + suffix] = medians[workload, "ours"] / medians[workload, engine]
    return rows, ratios


# Audit


def measure_audit(repeats: int) -> tuple[Rows, Ratios]:
    """Measures reading, hashing, decoding and comparing 512-pixel scans, for the first time and again."""
    count = 1000
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        files, cache = write_scans(Path(name), count), Path(name) / "cache"
        hospital = (
            notebook.configuration()
            .hospitals[0]
            .model_copy(update={"path": "scans", "class_map": {"glioma": "glioma"}})
        )
        actions = {
            "reading, hashing and decoding alone": lambda: list(map_files(fingerprint_file, files)),
            "audit": lambda: audit.audit_hospitals([hospital], Path(name), fresh(cache)),
            "audit of unchanged files": lambda: audit.audit_hospitals([hospital], Path(name), cache),
        }
        seconds = in_turns(actions, repeats)
    rows = [per_second(f"{name}, 512 x 512 JPEG", each, count) for name, each in seconds.items()]
    return rows, {"audit_again_vs_first": rows[2]["median"] / rows[1]["median"]}


MANY = 20_000


def measure_large_audit(repeats: int) -> tuple[Rows, Ratios]:  # noqa: ARG001  (minutes: once is enough)
    """Measures the time and the peak memory of an audit of 20,000 scans; shared pages count once."""
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        write_scans(Path(name), MANY)
        large = artifacts.locate(name).dataset / "dataset-1"
        shutil.rmtree(large)
        (Path(name) / "scans").rename(large)
        command = [sys.executable, "-m", "medisync", "audit", "--workspace", name]
        started = time.perf_counter()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        peak = engines.watch(process)[0] // 1024**2
        seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"the audit ended with {process.returncode}")
    memory = {"name": f"memory of an audit of {MANY} scans", "unit": "MB", "median": peak, "values": [peak]}
    return [lasting(f"audit of {MANY} scans", [seconds]), memory], {}


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


# Start-up


def measure_start_up(repeats: int) -> tuple[Rows, Ratios]:
    """Measures whole processes, from the command to its end."""
    commands = {
        "medisync --help": ["-m", "medisync", "--help"],
        "import medisync": ["-c", "import medisync"],
        "python alone": ["-c", ""],
    }
    actions = {
        name: lambda words=words: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        for name, words in commands.items()
    }
    return [lasting(name, seconds) for name, seconds in in_turns(actions, 2 * repeats).items()], {}


PARTS: Mapping[str, Callable[[int], tuple[Rows, Ratios]]] = {
    "training": measure_training,
    "prediction": measure_prediction,
    "onnxruntime": measure_onnxruntime,
    "orchestration": measure_orchestration,
    "engines": measure_engines,
    "audit": measure_audit,
    "large-audit": measure_large_audit,
    "start-up": measure_start_up,
}


def _saved() -> dict[str, Any]:
    file = RESULTS / "latest.json"
    results: dict[str, Any] = (
        json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"ratios": {}, "parts": {}}
    )
    return results


def save(found: Mapping[str, Any]) -> None:
    """Writes the results as JSON and as a table."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "latest.md").write_text(markdown(found), encoding="utf-8")


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the ratios with their targets, then every row with its machine."""
    lines = ["| ratio | measured | target |", "| --- | --- | --- |"]
    for name, value in found["ratios"].items():
        target = TARGETS.get(name)
        lines.append(f"| {name} | {value:.3g} | {_target(name, target) if target else ''} |")
    lines += ["", "| part | what | median | unit | measurements | machine |", "| --- | --- | --- | --- | --- | --- |"]
    for part, content in found["parts"].items():
        for row in content["rows"]:
            what = f"{row['median']:.3g} | {row['unit']} | {len(row['values'])}"
            lines.append(f"| {part} | {row['name']} | {what} | {content['machine']} |")
    return "\n".join(lines) + "\n"


def _target(name: str, value: float) -> str:
    return f"{'>=' if name in AT_LEAST else '<='} {value:g}"


if __name__ == "__main__":
    sys.exit(main())
