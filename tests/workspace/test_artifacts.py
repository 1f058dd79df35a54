"""The workspace: writes are atomic, runs get unique numbers, and damage is reported without affecting other runs."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from factories import make_run
from filelock import FileLock

from medisync.errors import ArtifactError
from medisync.schemas import HistoryEntry, HospitalScores
from medisync.workspace import artifacts, atomic, publishing
from medisync.workspace.artifacts import Workspace

SCORES = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 0.9, "val_accuracy": 0.6}
HISTORY = [
    HistoryEntry(epoch=1, learning_rate=1e-3, seconds=2.0, hospitals={"North": HospitalScores(**SCORES)}, **SCORES)
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_runs_are_counted_up_and_other_names_are_ignored(workspace: Workspace) -> None:
    for name in ("run-abc", "run-1", "run-0007x"):
        (workspace.artifacts / name).mkdir(parents=True)
    (workspace.artifacts / "run-002").write_text("a file")
    assert artifacts.allocate(workspace).name == "run-003"
    (workspace.artifacts / "run-1000").mkdir()
    assert artifacts.allocate(workspace).name == "run-1001"


def test_runs_started_at_the_same_time_get_different_folders(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: artifacts.allocate(workspace), range(16)))
    assert len({run.folder for run in runs}) == len({run.log_folder for run in runs}) == 16


def test_partial_files_of_an_unfinished_run_are_removed_unless_a_process_is_working_on_it(workspace: Workspace) -> None:
    left = []
    for name in ("run-001", "run-002"):
        (workspace.artifacts / name / artifacts.CHECKPOINTS).mkdir(parents=True)
        left += [workspace.artifacts / name / entry for entry in (".start.json.x.partial", "checkpoints/.2.y.partial")]
        (workspace.artifacts / name / artifacts.LOCK).touch()
    for file in left:
        file.touch()
    with FileLock(workspace.artifacts / "run-002" / artifacts.LOCK):
        publishing.tidy(workspace)
    assert [file for file in left if file.exists()] == left[2:]


def test_a_written_record_is_read_back(workspace: Workspace) -> None:
    artifacts.write(workspace.root, artifacts.HISTORY, HISTORY)
    assert artifacts.read(workspace.root, artifacts.HISTORY) == HISTORY
    assert os.listdir(workspace.root) == [artifacts.HISTORY]  # no temporary file is left  # noqa: PTH208


def test_a_failed_write_leaves_the_old_file_and_nothing_else(workspace: Workspace) -> None:
    artifacts.write(workspace.root, artifacts.HISTORY, HISTORY)
    broken = [HISTORY[0].model_copy(update={"train_loss": float("nan")})]
    with pytest.raises(ArtifactError, match=r"training_history.json would be invalid: 0.train_loss"):
        artifacts.write(workspace.root, artifacts.HISTORY, [entry.model_dump() for entry in broken])
    assert artifacts.read(workspace.root, artifacts.HISTORY) == HISTORY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is damaged"),
        ("[{", "is damaged"),
        ('[{"epoch": NaN}]', "holds NaN, which is not a number in JSON"),
        ('[{"epoch": 1, "epoch": 2}]', "key 'epoch' occurs twice"),
        ('[{"epoch": 1}]', "Field required"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_a_damaged_file_is_reported_with_the_reason(workspace: Workspace, text: str, reason: str) -> None:
    (workspace.root / artifacts.HISTORY).write_text(text)
    with pytest.raises(ArtifactError, match=reason):
        artifacts.read(workspace.root, artifacts.HISTORY)


def test_a_missing_file_is_reported(workspace: Workspace) -> None:
    with pytest.raises(ArtifactError, match=r"training_history.json is missing"):
        artifacts.read(workspace.root, artifacts.HISTORY)


def test_an_unreadable_run_is_listed_with_its_reason_beside_the_others(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace)
    artifacts.allocate(workspace)
    (workspace.artifacts / "run-002" / artifacts.HISTORY).write_text("[]")
    listed = {run.name: run.problem for run in artifacts.list_runs(workspace)}
    assert list(listed) == ["run-003", "run-002", "run-001"]
    assert listed["run-003"] == "not finished: it has no run.json"
    assert "training_history.json was changed after the run" in listed["run-002"]
    assert listed["run-001"] == ""


def test_a_hospitals_own_model_may_be_removed_but_not_altered(workspace: Workspace) -> None:
    run = make_run(workspace, local=b"weights of one hospital")
    publishing.publish(workspace, run.name)
    weights = run / artifacts.local_files(1)[0]
    weights.write_bytes(b"others")
    with pytest.raises(ArtifactError, match=r"local_model_1.pth of run-001 is not the file"):
        artifacts.verify(workspace, run.name)
    weights.unlink()
    artifacts.verify(workspace, run.name)
    (listing,) = artifacts.list_runs(workspace)
    assert listing.problem == ""


def test_only_a_newer_run_replaces_the_published_model(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace)
    publishing.publish(workspace, "run-002")
    publishing.publish(workspace, "run-001")
    assert artifacts.read(workspace.models, artifacts.META).run == "run-002"


def test_an_unfinished_run_is_never_published(workspace: Workspace) -> None:
    run = artifacts.allocate(workspace)
    with pytest.raises(ArtifactError, match=r"run.json is missing"):
        publishing.publish(workspace, run.name)
    assert not workspace.models.exists()


def test_a_file_in_place_of_a_folder_is_reported_in_one_sentence(workspace: Workspace) -> None:
    workspace.artifacts.write_text("in the way")
    with pytest.raises(ArtifactError, match="could not create a folder in artifacts/"):
        artifacts.allocate(workspace)


def test_the_json_has_the_documented_keys(workspace: Workspace) -> None:
    artifacts.write(workspace.root, artifacts.HISTORY, HISTORY)
    entry = json.loads((workspace.root / artifacts.HISTORY).read_text())[0]
    assert {"epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "hospitals"} <= entry.keys()


def no_link(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def interrupt(folder: Path) -> None:
    with atomic.extended_folder(folder) as staging:
        atomic.write_bytes(staging / "list", b"3")
        raise KeyboardInterrupt


@pytest.mark.parametrize("missing", ["nothing", "exchange", "links"])
def test_an_extended_folder_changes_in_one_step_or_not_at_all(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "exchange":
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    if missing == "links":
        monkeypatch.setattr(os, "link", no_link)
    folder = tmp_path / "north"
    for number in (1, 2):
        with atomic.extended_folder(folder) as staging:
            atomic.write_bytes(staging / "glioma" / f"{number}.png", bytes([number]))
            atomic.write_bytes(staging / "list", bytes([number]))
            assert sorted(file.name for file in folder.rglob("*.png")) == ["1.png"][: number - 1]
    with pytest.raises(KeyboardInterrupt):
        interrupt(folder)
    found = {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"north/glioma/1.png": b"\1", "north/glioma/2.png": b"\2", "north/list": b"\2"}
