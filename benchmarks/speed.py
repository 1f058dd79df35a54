"""How fast it is against what the same machine can do: `make bench`.

    .venv/bin/python benchmarks/speed.py [--repeats 5] [--only training compiling prediction onnxruntime orchestration engines audit large-audit start-up]

Every comparison is measured in turns, A B A B, in one run, and told as the ratio of the medians; what stands beside each
other in a row of the table saw the same load. Prints a table and writes it, with every measurement and the machine it ran
on, to benchmarks/results/latest.json. What was left out by `--only` is kept from the last time.
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
from medisync.cli.common import DEMO_PARAMETERS
from medisync.config import Normalisation
from medisync.data import audit
from medisync.data.cache import open_cache
from medisync.data.decoding import decode
from medisync.data.fingerprints import fingerprint_file
from medisync.data.parallel import map_files
from medisync.data.preprocessing import normalise
from medisync.errors import ImageError
from medisync.federation import client_app, simulation
from medisync.inference import export, predictor
from medisync.model.device import describe_device, memory_kept, select_device
from medisync.model.resnet import build_resnet18, forward, restore_for_training
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import LABELS
from medisync.training.dataset import ImageSet
from medisync.training.local import train_locally
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
"""Of the ratios: at least for training, at most for the others."""
AT_LEAST = (
    *("training_vs_bare_step", "training_vs_plain_loop"),
    *("batch_prediction_vs_bare_forward", "audit_again_vs_first"),
)

Rows = list[dict[str, Any]]
Ratios = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what was asked for; returns 0."""
    options = _parse(arguments)
    kept = _kept()
    for name in options.only:
        rows, ratios = PARTS[name](options.repeats)
        kept["parts"][name] = {
            "command": f"python benchmarks/speed.py --only {name}",
            "machine": machine(),
            "rows": rows,
        }
        kept["ratios"] |= ratios
        keep(kept)
    print(markdown(kept))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement (default: 5)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    return parser.parse_args(arguments)


def machine() -> str:
    """The processor as the system names it, and what torch makes of it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
    return f"{name}, {os.cpu_count()} cores, {describe_device(select_device('auto'))}, torch {torch.__version__}"


def in_turns(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, one after the other, round after round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(repeats + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def per_second(name: str, seconds: Sequence[float], count: int, unit: str = "images/s") -> dict[str, Any]:
    """A row: how many of `count` things were done in a second, as the median, with every measurement."""
    rates = [count / each for each in seconds]
    return {"name": name, "unit": unit, "median": statistics.median(rates), "values": rates}


def lasting(name: str, seconds: Sequence[float]) -> dict[str, Any]:
    """A row: how long something took."""
    return {"name": name, "unit": "s", "median": statistics.median(seconds), "values": list(seconds)}


# Training


def measure_training(repeats: int) -> tuple[Rows, Ratios]:
    """A hospital's part of a round, the bare step on one batch that stays in memory, and a loop as in a tutorial."""
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
    """So many standardised images in a cache on disk, and the JPEG files of 512 pixels that they were decoded from."""
    with tempfile.TemporaryDirectory(prefix="medisync-") as name:
        files = write_scans(Path(name), count)
        known = [(file, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
        pixels = open_cache(known, SIZE, Path(name) / "cache")
        labels = np.arange(count) % len(LABELS)
        yield ImageSet(pixels, labels, np.arange(count)), files


def write_scans(folder: Path, count: int) -> list[Path]:
    """Grey JPEG files of 512 x 512 pixels: phantom scans, enlarged and turned, so that no two are of one slice."""
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
    """None for those that are damaged on purpose."""
    try:
        return Image.fromarray(decode(file.read_bytes()).pixels).convert("L").resize((512, 512))
    except ImageError:
        return None


def bare_steps(steps: int) -> None:
    """Forward, backward and fused Adam on one batch, in the precision and memory format that the device is fastest in."""
    stepper(steps, SIZE)()


def stepper(
    steps: int, side: int, normalisation: Normalisation = "averaged", *, compiled: bool = False
) -> Callable[[], None]:
    """So many steps on one batch that stays in memory, each time from where the last ones ended; compiled where asked for."""
    device = select_device("auto")
    network = restore_for_training(build_resnet18(normalisation).state_dict(), device, 0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    used = torch.compile(network) if compiled else network
    batch = torch.rand(BATCH, 3, side, side).to(device.kind, memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device=device.kind) % len(LABELS)

    def run() -> None:
        for _ in range(steps):
            loss = nn.functional.cross_entropy(forward(used, batch, device), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        float(loss.detach())  # a GPU has done what it was asked for only now

    return run


def our_loop(data: ImageSet) -> None:
    """What a hospital does between two messages: everything from the weights received to the weights returned."""
    train_locally(
        build_resnet18().state_dict(),
        data,
        notebook.configuration({**DEMO_PARAMETERS, "BATCH_SIZE": BATCH}).training,
        learning_rate=1e-3,
        generator=torch.Generator().manual_seed(0),
        device=select_device("auto"),
    )


COMPILED_SIDES = (64, 224)
"""Of the images of the notebook's first rounds, and of its last."""


def measure_compiling(repeats: int) -> tuple[Rows, Ratios]:
    """Training steps of the notebook's network as they are, and compiled by torch.compile, and what compiling takes the first
    time.
    """
    rows, ratios = Rows(), Ratios()
    for side in COMPILED_SIDES:
        plain, compiled = (stepper(3, side, "group", compiled=chosen) for chosen in (False, True))
        with tempfile.TemporaryDirectory() as nothing, mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=nothing):
            started = time.perf_counter()
            compiled()
            first = time.perf_counter() - started
        seconds = in_turns({f"steps at {side}": plain, f"steps at {side}, compiled": compiled}, repeats)
        rows += [per_second(name, each, 3 * BATCH) for name, each in seconds.items()]
        rows.append(lasting(f"compiling for {side}", [first]))
        slow, fast = (statistics.median(each) for each in seconds.values())
        ratios[f"compiled_vs_plain_steps_{side}"] = slow / fast
    return rows, ratios


class Files(Dataset[tuple[torch.Tensor, int]]):
    """Files that are opened, decoded and resized anew each time, as torchvision's tutorials do."""

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
    """One worker, float32, contiguous channels, the loss read after every step."""
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
    """The published model on single files and on a folder, against its forward pass alone and decoding."""
    folder = artifacts.list_runs(artifacts.locate(HERE.parent))[0].folder
    classifier = predictor.open_run(folder)
    with phantom_hospital(4 * BATCH) as (_, files):
        content = files[0].read_bytes()
        one, many = resident(classifier, 1), resident(classifier, predictor.BATCH)
        single = in_turns(
            {
                "one image: bare forward and decoding": lambda: (decode(content), one()),
                "one image: prediction": lambda: predictor.predict(classifier, content),
            },
            8 * repeats,
        )
        folder_of = {
            "a folder: bare forward": lambda: [many() for _ in range(len(files) // predictor.BATCH)],
            "a folder: prediction": lambda: list(predictor.predict_files(classifier, files)),
        }
        batch = in_turns(folder_of, repeats)
    rows = [lasting(name, each) for name, each in single.items()]
    rows += [per_second(name, each, len(files)) for name, each in batch.items()]
    bare, ours, bare_rate, our_rate = (row["median"] for row in rows)
    return rows, {"prediction_vs_bare_forward": ours / bare, "batch_prediction_vs_bare_forward": our_rate / bare_rate}


def resident(classifier: predictor.Classifier, count: int) -> Callable[[], object]:
    """The network's forward pass on a normalised batch that is there already."""
    pixels = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8, device=classifier.device.kind)
    batch = normalise(pixels)

    def forward() -> float:
        with torch.inference_mode():
            return float(forward(classifier.network, batch, classifier.device).sum())

    return forward


def measure_onnxruntime(repeats: int) -> tuple[Rows, Ratios]:
    """The exported network, float32, in onnxruntime with as many threads, against what this program uses: the same images.

    Memory is kept, as for a folder of scans; onnxruntime's threads do not spin while torch's work, or torch seems half as fast.
    """
    import onnxruntime  # type: ignore[import-untyped]

    classifier = predictor.open_run(artifacts.locate(HERE.parent).models)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    program = onnxruntime.InferenceSession(export.to_onnx(classifier), options, providers=["CPUExecutionProvider"])
    rows, ratios = [], {}
    for count, times in ((1, 8 * repeats), (predictor.BATCH, repeats)):
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
    """What a round of three hospitals costs beside training and evaluation: at 224 pixels, with as many images as a hospital of
    the demonstration, and with hardly any training.
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
    """Of each round but the first: its seconds, and those of them that went into training and evaluation."""
    parameters = {**DEMO_PARAMETERS, "IMAGE_SIZE": size, "BATCH_SIZE": BATCH}
    configuration = notebook.configuration({**parameters, "ROUNDS": rounds + 1, "PATIENCE": rounds + 1})
    hospitals = noise.hospitals(size, dict.fromkeys(("North", "South", "West"), count))
    work, marks = [0.0], []
    with timed("train_locally", work), timed("predict_images", work):
        outcome = simulation.simulate(hospitals, configuration, on_round=lambda _: marks.append(work[0]))
    spent = np.diff([0.0, *marks]).tolist()
    return list(zip([entry.seconds for entry in outcome.history], spent, strict=True))[1:]


@contextmanager
def timed(name: str, seconds: list[float]) -> Iterator[None]:
    """Adds up in `seconds[0]` what a function that the client app calls takes."""
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
    """The same federation by our grid, Flower's simulation engine and FLARE's simulator, as whole processes."""
    rows = engines.measure(repeats)
    medians = {(row["workload"], row["engine"]): row["median"] for row in rows}
    ratios = {}
    for engine, name in (("flower", "wall_vs_flower_simulation"), ("flare", "wall_vs_flare_simulator")):
        for workload, suffix in (("training", ""), ("no training", "_without_training")):
            ratios[name + suffix] = medians[workload, "ours"] / medians[workload, engine]
    return rows, ratios


# Audit


def measure_audit(repeats: int) -> tuple[Rows, Ratios]:
    """Reading, hashing, decoding and comparing 512-pixel scans, for the first time and again."""
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
    """How long an audit of 20,000 scans takes, and how much memory of its processes is in use at most, shared pages once."""
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
    """From the command to its end, as a whole process."""
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
    "compiling": measure_compiling,
    "prediction": measure_prediction,
    "onnxruntime": measure_onnxruntime,
    "orchestration": measure_orchestration,
    "engines": measure_engines,
    "audit": measure_audit,
    "large-audit": measure_large_audit,
    "start-up": measure_start_up,
}


def _kept() -> dict[str, Any]:
    file = RESULTS / "latest.json"
    kept: dict[str, Any] = (
        json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"ratios": {}, "parts": {}}
    )
    return kept


def keep(found: Mapping[str, Any]) -> None:
    """As JSON and as the table of the README."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "latest.md").write_text(markdown(found), encoding="utf-8")


def markdown(found: Mapping[str, Any]) -> str:
    """The ratios with what was aimed at, then every row with where it was measured."""
    lines = ["| ratio | measured | aim |", "| --- | --- | --- |"]
    for name, value in found["ratios"].items():
        aim = TARGETS.get(name)
        lines.append(f"| {name} | {value:.3g} | {_aim(name, aim) if aim else ''} |")
    lines += ["", "| part | what | median | unit | of | machine |", "| --- | --- | --- | --- | --- | --- |"]
    for part, content in found["parts"].items():
        for row in content["rows"]:
            what = f"{row['median']:.3g} | {row['unit']} | {len(row['values'])}"
            lines.append(f"| {part} | {row['name']} | {what} | {content['machine']} |")
    return "\n".join(lines) + "\n"


def _aim(name: str, value: float) -> str:
    return f"{'>=' if name in AT_LEAST else '<='} {value:g}"


if __name__ == "__main__":
    sys.exit(main())
