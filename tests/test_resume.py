"""An interrupted run is resumed where it was, and ends with the bits of one that was never interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medisync import notebook, pipeline
from medisync.cli.main import main
from medisync.config import Configuration
from medisync.errors import ArtifactError, ConfigError, DataError
from medisync.federation import simulation
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.observer import TrainingObserver
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import RunStart, SplitRecord
from medisync.training.dataset import HospitalData, ImageSet
from medisync.workspace import artifacts, run_lock


def hospital(seed: int) -> HospitalData:
    """Returns twelve noisy images for each split."""
    random = np.random.default_rng(seed)

    def images() -> ImageSet:
        labels = np.arange(12, dtype=np.int64) % 4
        return ImageSet(random.integers(0, 256, (12, 32, 32), dtype=np.uint8), labels, np.arange(12, dtype=np.int64))

    return {"train": images(), "val": images(), "test": images()}


WITH_EXTERNAL = notebook.literals()["DATASETS"] | {
    "elsewhere": {"role": "external", "path": "elsewhere", "class_map": {"glioma": "glioma"}}
}

HOSPITALS = {name: hospital(seed) for seed, name in enumerate(("North", "South", "West"))}


TINY = {"IMAGE_SIZE": 32, "LEARNING_RATE": 1e-3, "ROUNDS": 3, "VALIDATE_EVERY": 1, "DEVICE": "cpu"}


def configuration(**parameters: object) -> Configuration:
    return notebook.configuration({**TINY, **parameters})


class Saving(TrainingObserver):
    """Keeps the file of every checkpoint."""

    def __init__(self) -> None:
        self.saved: list[bytes] = []

    def round_validated(self, checkpoint: Checkpoint) -> None:
        self.saved.append(checkpoint.to_bytes())


@pytest.mark.parametrize(
    "parameters",
    [
        {"PARTICIPATION": 0.7},
        {"STRATEGY": "fedavgm"},
        {"STRATEGY": "fedadam", "SERVER_LEARNING_RATE": 0.001},
        {"STRATEGY": "fedyogi", "SERVER_LEARNING_RATE": 0.001, "SERVER_LEARNING_RATE_SCHEDULE": "cosine"},
        {"NORMALISATION": "averaged", "LOCAL_EPOCHS": 0.5},
        {"ADAM_MOMENTS": "fresh"},
        {"TRANSPORT": "compact"},
    ],
    ids=lambda parameters: parameters.get("STRATEGY", next(iter(parameters))),
)
def test_a_resumed_federation_ends_with_the_same_bits(parameters: dict[str, object]) -> None:
    settings, first, second = configuration(**parameters), Saving(), Saving()
    whole = simulation.simulate(HOSPITALS, settings, observer=first)
    resumed = Checkpoint.from_bytes(first.saved[1])
    assert resumed.rounds_done == 2
    ended = simulation.simulate(HOSPITALS, settings, resumed=resumed, observer=second)
    assert len(second.saved) == len(first.saved) - 2 > 0
    left = first.saved[2:]
    for one, other in zip(map(Checkpoint.from_bytes, left), map(Checkpoint.from_bytes, second.saved), strict=True):
        expected, found = one.arrays.to_torch_state_dict(), other.arrays.to_torch_state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert all(torch.equal(whole.state[key], ended.state[key]) for key in whole.state)
    assert (whole.best_round, whole.test, whole.calibration) == (ended.best_round, ended.test, ended.calibration)


def test_a_completed_federation_is_only_tested_again() -> None:
    settings, first, second = configuration(ROUNDS=1), Saving(), Saving()
    whole = simulation.simulate(HOSPITALS, settings, observer=first)
    resumed = Checkpoint.from_bytes(first.saved[0])
    ended = simulation.simulate(HOSPITALS, settings, resumed=resumed, observer=second)
    assert second.saved == []
    assert ended.test == whole.test


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[artifacts.Workspace]:
    (tmp_path / "dataset").mkdir()
    yield artifacts.locate(tmp_path)
    run_lock.let_go()


def test_a_run_is_begun_once_and_resumed_by_one_process(workspace: artifacts.Workspace) -> None:
    run = pipeline.begin(workspace, configuration())
    assert artifacts.read(run.folder, artifacts.START).log == run.run.log_folder.name
    assert "--resume run-001" in artifacts.list_runs(workspace)[0].problem
    again = pipeline.begin(workspace, configuration(RESUME="run-001"))
    assert again.run == run.run
    log = (run.run.log_folder / artifacts.LOG).read_text()
    assert "run-001 begins" in log
    assert "run-001 is resumed" in log
    code = (
        "from medisync import notebook, pipeline\nfrom medisync.workspace import artifacts\n"
        f"settings = notebook.configuration({ {**TINY, 'RESUME': 'run-001'} })\n"
        f"pipeline.begin(artifacts.locate({str(workspace.root)!r}), settings)\n"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "another process works on run-001" in other.stderr


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"RESUME": "run-002"}, ArtifactError, "run-002: no such run"),
        ({"RESUME": "run-001", "ROUNDS": 5}, ConfigError, "begun with ROUNDS = 3, now it is 5"),
        ({"RESUME": "run-001", "DATASETS": WITH_EXTERNAL}, ConfigError, "DATASETS are not what they were when run-001"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(
    parameters: dict[str, object], error: type[Exception], message: str, workspace: artifacts.Workspace
) -> None:
    pipeline.begin(workspace, configuration())
    with pytest.raises(error, match=message):
        pipeline.begin(workspace, configuration(**parameters))


def test_a_run_is_described_in_one_line(workspace: artifacts.Workspace) -> None:
    described = pipeline.describe(pipeline.begin(workspace, configuration()))
    assert re.fullmatch(r"run-001 on CPU, \d+ threads?, (bfloat16|float32)", described)


def test_a_complete_run_has_nothing_to_resume(workspace: artifacts.Workspace) -> None:
    run = pipeline.begin(workspace, configuration())
    artifacts.commit(run.run, synthetic=True, configuration={}, software={})
    assert not (run.folder / artifacts.START).exists()
    with pytest.raises(ArtifactError, match="run-001 is complete"):
        pipeline.begin(workspace, configuration(RESUME="run-001"))


def test_a_run_is_not_resumed_on_a_changed_dataset(workspace: artifacts.Workspace) -> None:
    run = pipeline.begin(workspace, configuration())
    rules = {"seed": 0, "val_ratio": 0.2, "test_ratio": 0.2, "cross_hospital_duplicates": "one-owner"}
    before = SplitRecord(hospitals={}, notes=["as it was"], **rules)
    pipeline.record_splits(run, before, {})
    pipeline.record_splits(run, before, {})
    with pytest.raises(DataError, match="begin a new run"):
        pipeline.record_splits(run, SplitRecord(hospitals={}, notes=["with one image more"], **rules), {})


COMPARED = {"IMAGE_SIZE": 32, "VALIDATE_EVERY": 1, "ROUNDS": 3, "PATIENCE": 3, "BASELINES": "[]", "DEVICE": "cpu"}
TRAIN = [word for name, value in COMPARED.items() for word in ("-p", name, str(value))]


def test_a_killed_run_is_resumed_to_the_same_model(tmp_path: Path) -> None:
    workspace = artifacts.locate(tmp_path)
    write_hospitals(workspace.dataset, seed=3, scale=0.04)
    command = [sys.executable, "-m", "medisync", "train", "--workspace", str(tmp_path), *TRAIN]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = workspace.artifacts / "run-001" / artifacts.CHECKPOINTS / "federated.pth"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    start: RunStart = artifacts.read(workspace.artifacts / "run-001", artifacts.START)
    assert main(["train", "--workspace", str(tmp_path), "--resume", "run-001"]) == 0
    assert main(["train", "--workspace", str(tmp_path), *TRAIN]) == 0
    resumed, whole = (artifacts.read(workspace.artifacts / run, artifacts.META) for run in ("run-001", "run-002"))
    assert resumed.model_sha256 == whole.model_sha256
    assert resumed.metrics == whole.metrics
    record = artifacts.read(workspace.artifacts / "run-001", artifacts.RUN)
    assert record.log == start.log
    assert sorted(record.files) == sorted(artifacts.read(workspace.artifacts / "run-002", artifacts.RUN).files)
    leftovers = {artifacts.START, artifacts.LOCK, artifacts.CHECKPOINTS}
    assert not leftovers & {entry.name for entry in (workspace.artifacts / "run-001").iterdir()}
