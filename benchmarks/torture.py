"""Measures what is lost when runs are killed, disks are full or read-only, and many processes and sessions work at once.

    python benchmarks/torture.py            # what `make torture` runs: up to an hour
    python benchmarks/torture.py kills --kills 5

Runs are the notebook's, cell by cell, on tiny phantoms. The full and the read-only disk are small tmpfs mounts, which need
root; without it their rows say so.
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dashboard_load
import numpy as np
import psutil  # type: ignore[import-untyped]
from PIL import Image

from medisync import notebook
from medisync.config import DEMO_PARAMETERS
from medisync.errors import ArtifactError, ImageError, MediSyncError
from medisync.imaging import limits
from medisync.phantom.hospitals import write_hospitals
from medisync.workspace import artifacts, publishing
from medisync.workspace.artifacts import Workspace

HERE = Path(__file__).parent
ROOT = HERE.parent
TINY: Mapping[str, Any] = {
    **DEMO_PARAMETERS,
    "IMAGE_SIZE": 32,
    "ROUNDS": 2,
    "BASELINES": [],
    "DEVICE": "cpu",
}
SCALE = 0.02
"""Size of the phantom hospitals: about sixty images."""


@dataclass
class Row:
    """The outcomes of one kind of attempt."""

    attempt: str
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """Whatever was damaged, left behind or wrong; expected to be empty."""
    measured: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        outcomes = ", ".join([*(f"{number} {name}" for name, number in self.outcomes.most_common()), *self.measured])
        return f"| {self.attempt} | {outcomes} | {'; '.join(dict.fromkeys(self.lost)) or 'nothing'} |"


def cells(parameters: Mapping[str, Any]) -> str:
    """Returns the notebook's code with some parameters replaced, without the last section, which only shows a prediction."""
    content = json.loads(notebook.PATH.read_text(encoding="utf-8"))["cells"]
    sources = []
    for cell in content:
        if cell["cell_type"] == "code":
            sources.append("".join(cell["source"]))
            if "parameters" in cell["metadata"].get("tags", []):
                sources.append("\n".join(f"{name} = {value!r}" for name, value in parameters.items()))
    return "\n".join(sources[:-1])


WARM = multiprocessing.get_context("forkserver")
"""Runs begin in forks of a process that has imported everything: otherwise most kills of a tiny run would hit imports."""
WARM.set_forkserver_preload(
    ["medisync.pipeline", "medisync.inference.predictor", "medisync.reporting.tables", "sklearn.metrics"]
)


@dataclass(frozen=True)
class Started:
    """A run in its own process."""

    process: BaseProcess
    errors: Path
    """File with its standard error."""

    def kill_after(self, seconds: float) -> None:
        """Kills the process and its children after some seconds, unless it has ended by then."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            with suppress(ProcessLookupError):  # it had not yet become a process group
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.end()

    def end(self) -> str:
        """Waits for the end; returns the last line of its errors if it failed, else an empty string."""
        self.process.join()
        said = self.errors.read_text(errors="replace").strip().splitlines()
        self.errors.unlink()
        return (said or ["killed"])[-1] if self.process.exitcode else ""


def start(root: Path, kill_at: int = 0, **parameters: Any) -> Started:
    """Starts a run; `kill_at` kills it before its n-th creation, renaming or removal of a file."""
    code = f"{SUICIDE.format(kill_at=kill_at) if kill_at else ''}\n{cells({**TINY, **parameters})}"
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    process = WARM.Process(target=_run, args=(code, root, Path(name)))
    process.start()
    return Started(process, Path(name))


def _run(code: str, root: Path, errors: Path) -> None:
    import torch

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    os.chdir(ROOT)
    os.environ["MEDISYNC_WORKSPACE"] = str(root)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    exec(compile(code, "notebook", "exec"), {"__name__": "__main__"})  # noqa: S102


SUICIDE = """
import os as _os, signal as _signal
_left = [{kill_at}]
def _dying(real):
    def call(*arguments, **options):
        _left[0] -= 1
        if _left[0] == 0:
            _os.kill(_os.getpid(), _signal.SIGKILL)
        return real(*arguments, **options)
    return call
for _name in ("replace", "rename", "mkdir", "unlink", "fsync", "rmdir"):
    setattr(_os, _name, _dying(getattr(_os, _name)))
"""


def make_workspace(root: Path) -> Workspace:
    workspace = artifacts.locate(root)
    write_hospitals(workspace.dataset, seed=3, scale=SCALE)
    return workspace


def finish(root: Path, **parameters: Any) -> str:
    """Runs to the end; returns the last line of its errors if it failed, else an empty string."""
    return start(root, **parameters).end()


def model_of(workspace: Workspace, run: str) -> str:
    sha256: str = artifacts.read(workspace.artifacts / run, artifacts.META).model_sha256
    return sha256


def damage(workspace: Workspace, *, known: set[str]) -> list[str]:
    """Returns what a reader would find wrong now, in the list of runs and in models/."""
    found = [f"{run.name}: {run.problem}" for run in artifacts.list_runs(workspace) if _is_damaged(run)]
    try:
        meta = artifacts.read(workspace.models, artifacts.META)
    except ArtifactError as error:
        return found if not list(workspace.models.glob("*.pth")) else [*found, f"models/: {error}"]
    if artifacts.sha256(workspace.models / artifacts.MODEL) != meta.model_sha256:
        found.append("models/ holds the model of one run and the metadata of another")
    if meta.model_sha256 not in known:
        found.append("models/ holds a model that no run made")
    return found


def _is_damaged(run: artifacts.RunListing) -> bool:
    return run.record is None and not run.problem.startswith("not finished")


def leftovers(workspace: Workspace) -> list[str]:
    """Returns temporary files, and files that serve a run only while it runs."""
    unfinished = (artifacts.START, artifacts.LOCK, artifacts.CHECKPOINTS)
    return [
        f"{entry.name.split('.')[1] or entry.name} left behind"
        for entry in workspace.root.rglob("*")
        if entry.name.endswith(".partial")
        or (entry.name in unfinished and (entry.parent / artifacts.RUN).exists() and entry.name != artifacts.LOCK)
    ]


def kill_runs(kills: int, seed: int) -> list[Row]:
    """Kills runs at random moments, and before single changes of the disk; then resumes them or starts again."""
    anywhere = Row(f"SIGKILL at {kills} random moments of a run")
    writing = Row(f"SIGKILL before {kills} random changes of a file")
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        if said := finish(workspace.root):
            raise MediSyncError(f"the reference run, with which the others are compared, failed: {said}")
        expected, started = model_of(workspace, "run-001"), time.monotonic()
        attempt(workspace, Row("a whole run"), expected, lambda root: start(root).end())
        seconds = time.monotonic() - started
        generator = random.Random(seed)  # noqa: S311
        for number in range(kills):
            moment, change = generator.uniform(0, seconds), generator.randint(1, CHANGES)
            attempt(workspace, anywhere, expected, lambda root, wait=moment: start(root).kill_after(wait))
            attempt(workspace, writing, expected, lambda root, at=change: start(root, kill_at=at).end())
            print(f"{number + 1} of {kills}\n{anywhere.markdown()}\n{writing.markdown()}", flush=True)
    return [anywhere, writing]


CHANGES = 75
"""About as many creations, renamings and removals of files as a tiny run makes; a later one never comes."""


def attempt(workspace: Workspace, row: Row, expected: str, strike: Callable[[Path], Any]) -> None:
    """Runs and strikes once, records what is left, and checks that resuming gives the same bits."""
    before = {run.name for run in artifacts.list_runs(workspace)}
    strike(workspace.root)
    row.lost += damage(workspace, known={expected})
    new = [run for run in artifacts.list_runs(workspace) if run.name not in before]
    resume = new[0].name if new and (new[0].folder / artifacts.START).exists() and not new[0].record else ""
    if new and new[0].record:
        row.outcomes["complete"] += 1
        finish_quietly = ""
    else:
        row.outcomes["resumed to the same bits" if resume else "killed before it had begun"] += 1
        finish_quietly = finish(workspace.root, RESUME=resume) if resume else ""
    if finish_quietly:
        row.lost.append(f"not resumed: {finish_quietly}")
    elif resume and model_of(workspace, resume) != expected:
        row.lost.append("other bits after resuming")
    publishing.tidy(workspace)
    row.lost += [*damage(workspace, known={expected}), *leftovers(workspace)]
    _delete_all_but_first(workspace)


def _delete_all_but_first(workspace: Workspace) -> None:
    """Keeps attempts equally expensive. Removes the image cache too, so that it is built again."""
    import shutil

    for run in artifacts.list_runs(workspace)[:-1]:
        shutil.rmtree(run.folder)
    for cache in workspace.cache.glob("*.npy"):
        cache.unlink()


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


REFUSED = "refused in one sentence"


def fill_disks() -> list[Row]:
    """Runs on disks too small for the dataset, for the run, or for parts of it."""
    row = Row("a disk that fills up during a run")
    if os.geteuid():
        return [Row("a full disk", Counter({"not tried without root": 1}))]
    for kilobytes in (3_000, 25_000, 60_000, 110_000, 150_000):
        with small_disk(f"{kilobytes}k") as folder:
            workspace = make_workspace(folder)
            said = finish(folder)
            row.outcomes["complete" if not said else REFUSED if is_sentence(said) else said[:100]] += 1
            row.lost += damage(
                workspace,
                known={run.record.files[artifacts.MODEL] for run in artifacts.list_runs(workspace) if run.record},
            )
            row.lost += leftovers(workspace)
    return [row]


def is_sentence(said: str) -> bool:
    """True for one of the program's own messages: the name of the error class, and what could not be done."""
    return said.startswith(("medisync.errors.", "ArtifactError", "DataError")) and "Traceback" not in said


def refuse_places() -> list[Row]:
    """Runs in a read-only workspace, and with a file in the place of each folder."""
    rows = []
    if not os.geteuid():
        row = Row("a read-only workspace")
        with small_disk("20m") as folder:
            workspace = make_workspace(folder)
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            said = finish(folder)
            row.outcomes[REFUSED if is_sentence(said) else said[:100] or "not refused"] += 1
        rows.append(row)
    row = Row("a file where a folder should be")
    for name in ("artifacts", "logs", ".cache", "models"):
        with tempfile.TemporaryDirectory() as root:
            workspace = make_workspace(Path(root))
            (workspace.root / name).write_text("in the way")
            said = finish(workspace.root)
            row.outcomes[REFUSED if is_sentence(said) else f"{name}: {said[:100]}"] += 1
            if (workspace.root / name).read_text() != "in the way":
                row.lost.append(f"the file {name}")
    return [*rows, row]


def run_together() -> list[Row]:
    """Starts two runs at once and reads the workspace all the time."""
    together, reading = Row("two runs started at once"), Row("reading while two runs write")
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        over, made = threading.Event(), set[str]()

        def read() -> None:
            while not over.is_set():
                made.update(run.record.files[artifacts.MODEL] for run in artifacts.list_runs(workspace) if run.record)
                reading.lost.extend(damage(workspace, known=made | _complete_models(workspace)))
                reading.outcomes["reads"] += 1

        reader = threading.Thread(target=read)
        reader.start()
        runs = [start(workspace.root) for _ in range(2)]
        together.lost += filter(None, [run.end() for run in runs])
        over.set()
        reader.join()
        listed = artifacts.list_runs(workspace)
        together.outcomes["complete, each under its own number"] += sum(1 for run in listed if run.record)
        together.lost += [*damage(workspace, known=_complete_models(workspace)), *leftovers(workspace)]
    return [together, reading]


def crowd_dashboard(sessions: int, seconds: int) -> list[Row]:
    """Loads the dashboard with sessions that upload scans, open pages and switch between two runs."""
    row = Row(f"{sessions} sessions of the dashboard at once, {seconds} s")
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        for seed in range(2):
            if said := finish(workspace.root, SEED=seed, BASELINES=["local"]):
                raise MediSyncError(f"a run for the dashboard to show failed: {said}")
        load = dashboard_load.crowd(workspace.root, sessions, seconds)
    row.outcomes.update({"pages opened": load.openings, "scans predicted": load.predictions})
    row.measured.append(f"a page in {statistics.median(load.seconds):.1f} s (median)")
    grown = dashboard_load.growth(load.megabytes)
    row.measured.append(f"memory {grown:+.1%} after the first minute (limit: {MORE_MEMORY:+.0%})")
    row.lost += load.lost + ["memory grew"] * (grown > MORE_MEMORY)
    return [row]


MORE_MEMORY = 0.03
"""Fraction by which a process may have grown from the end of its warming up to its own end."""


def run_long(rounds: int) -> list[Row]:
    """Observes memory, open files and what is written, once a round from the tenth on."""
    row = Row(f"a run of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder))
        run = start(workspace.root, ROUNDS=rounds, PATIENCE=rounds)
        looks = list(_look_at_rounds(workspace, psutil.Process(run.process.pid)))
        if said := run.end():
            raise MediSyncError(f"the long run failed: {said}")
        log = sum(file.stat().st_size for file in workspace.logs.rglob("*.log"))
    memory, files, written = zip(*looks, strict=True)
    grown = dashboard_load.growth(memory)
    row.outcomes["rounds observed"] = len(looks)
    row.measured += [f"memory {grown:+.1%}", f"open files {files[0]:.0f}, at most {max(files):.0f}"]
    row.measured += [f"{written[-1] / 1e3:.0f} kB of records", f"{log / 1e3:.0f} kB of log"]
    row.lost += ["memory grew"] * (grown > MORE_MEMORY)
    row.lost += ["open files grew"] * (dashboard_load.growth(files) > 0)
    row.lost += ["records grow faster than the rounds"] * (written[-1] > 1.2 * written[0] * rounds / FIRST_LOOK)
    return [row]


FIRST_LOOK = 10
"""The round after which a process has allocated whatever it needs."""


def _look_at_rounds(workspace: Workspace, process: psutil.Process) -> Iterator[tuple[float, float, float]]:
    """Yields resident bytes, open files and bytes of the history at the end of every round."""
    history, seen = workspace.artifacts / "run-001" / artifacts.HISTORY, 0
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
            if not history.exists() or (done := len(json.loads(history.read_bytes()))) <= seen:
                continue
            seen = done
            if seen >= FIRST_LOOK:
                yield process.memory_info().rss, process.num_fds(), history.stat().st_size


def measure_inputs() -> list[Row]:
    """Measures a prediction of every bad file and of the largest good ones, each in a process that has predicted before."""
    row = Row("a prediction for every bad file, and for scans of the largest size")
    with ProcessPoolExecutor(1, mp_context=WARM, max_tasks_per_child=1) as pool:
        names, contents = zip(*_bad_files(), *_large_files(), strict=True)
        costs = dict(zip(names, pool.map(_cost, contents), strict=True))
    row.outcomes["files"] = len(costs)
    for place, (unit, most) in enumerate((("s", MOST_SECONDS), ("MB", MOST_MEGABYTES))):
        name = max(costs, key=lambda each: costs[each][place])
        row.measured.append(f"at most {costs[name][place]:.{1 - place}f} {unit} ({name})")
        row.lost += [
            f"{name}: {cost[place]:.{1 - place}f} {unit}" for name, cost in costs.items() if cost[place] > most
        ]
    return [row]


MOST_SECONDS, MOST_MEGABYTES = 1.0, 300.0


def _bad_files() -> Iterator[tuple[str, bytes]]:
    sys.path.append(str(ROOT / "tests"))  # it builds one file for each row of the table
    import bad_inputs  # type: ignore[import-not-found]

    yield from ((file.name, file.content) for file in bad_inputs.files())


def _large_files() -> Iterator[tuple[str, bytes]]:
    side = math.isqrt(limits.MAX_PIXELS)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    for name, picture in {
        "grey": pixels[..., 0],
        "colour": pixels,
        "16 bits": pixels[..., 0].astype(np.uint16),
    }.items():
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG", compress_level=1)
        yield f"{side} x {side}, {name}", stream.getvalue()


def _cost(content: bytes) -> tuple[float, float]:
    """Returns the seconds of one prediction, and the megabytes above the process's earlier peak."""
    from medisync.inference import predictor

    classifier = predictor.open_run(artifacts.locate(ROOT).models)
    predictor.predict(classifier, SAMPLE.read_bytes())
    before, started = _peak(), time.monotonic()
    with suppress(ImageError):
        predictor.predict(classifier, content)
    return time.monotonic() - started, (_peak() - before) / 1024


SAMPLE = ROOT / "medisync" / "dashboard" / "samples" / "glioma.png"


def _peak() -> int:
    """Returns this process's peak resident memory in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _complete_models(workspace: Workspace) -> set[str]:
    return {run.record.files[artifacts.MODEL] for run in artifacts.list_runs(workspace) if run.record}


PARTS: Mapping[str, Callable[[argparse.Namespace], list[Row]]] = {
    "kills": lambda options: kill_runs(options.kills, options.seed),
    "disk": lambda options: fill_disks(),
    "places": lambda options: refuse_places(),
    "together": lambda options: run_together(),
    "inputs": lambda options: measure_inputs(),
    "crowd": lambda options: crowd_dashboard(options.sessions, options.seconds),
    "rounds": lambda options: run_long(options.rounds),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--kills", type=int, default=25, help="kills of either kind (default: 25)")
    parser.add_argument("--sessions", type=int, default=20, help="simultaneous sessions of the dashboard (default: 20)")
    parser.add_argument("--seconds", type=int, default=180, help="duration of the sessions (default: 180)")
    parser.add_argument("--rounds", type=int, default=200, help="rounds of the long run (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    started, rows = time.monotonic(), []
    for name in options.parts or PARTS:
        rows += PARTS[name](options)
        save(rows, time.monotonic() - started)
    return int(any(row.lost for row in rows))


def save(rows: Sequence[Row], seconds: float) -> None:
    """Prints the table so far and writes it to disk."""
    lines = ["| attempt | outcome | lost |", "| --- | --- | --- |", *(row.markdown() for row in rows)]
    text = "\n".join(lines)
    print(f"\n{text}", flush=True)
    command = (
        f"`python benchmarks/torture.py{''.join(f' {word}' for word in sys.argv[1:])}`, {seconds / 60:.0f} minutes"
    )
    (HERE / "torture.md").write_text(f"{command}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
