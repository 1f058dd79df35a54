"""The short form of `make torture`: kills while publishing and in a run, a full disk, files in the way."""

import multiprocessing
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dashboard_load
import factories
import pytest
import torture
from scans import save, texture

from medisync.data.cache import open_cache
from medisync.errors import ArtifactError, DataError
from medisync.model import local_batchnorm
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.workspace import artifacts, atomic, publishing
from medisync.workspace.artifacts import Workspace


def published(workspace: Workspace) -> str:
    """Returns the run whose model is in models/, after checking that every file of it is."""
    meta = artifacts.read(workspace.models, artifacts.META)
    for name in artifacts.PUBLISHED:
        expected = (workspace.artifacts / meta.run / name).read_bytes()
        assert (workspace.models / name).read_bytes() == expected, name
    return str(meta.run)


def publish_and_die(workspace: Workspace, at: int) -> int:
    """Publishes in a forked process, which is cheap to start, and returns its exit code."""

    def publish() -> None:
        exec(torture.SUICIDE.format(kill_at=at), {})  # noqa: S102
        publishing.publish(workspace, "run-002")

    process = multiprocessing.get_context("fork").Process(target=publish)
    process.start()
    process.join()
    return int(process.exitcode or 0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return artifacts.locate(tmp_path)


def test_publishing_killed_at_any_moment_leaves_the_old_model_or_the_new(tmp_path: Path) -> None:
    first = artifacts.locate(tmp_path / "first")
    for number in range(2):
        factories.make_run(first, model=bytes([number]) * 1000)
    (first.models / "README.md").parent.mkdir()
    (first.models / "README.md").write_text("kept")
    publishing.publish(first, "run-001")
    seen: Counter[str] = Counter()
    for at in range(1, 40):
        root = tmp_path / str(at)
        shutil.copytree(first.root, root)
        workspace = artifacts.locate(root)
        died = publish_and_die(workspace, at)
        seen[published(workspace)] += 1
        publishing.publish(workspace, "run-002")
        assert published(workspace) == "run-002"
        assert (workspace.models / "README.md").read_text() == "kept"
        assert torture.leftovers(workspace) == []
        shutil.rmtree(root)
        if not died:
            break
    assert not died, "it had more changes to make than were tried"
    assert seen["run-001"] > 5
    assert seen["run-002"] > 1


def test_where_folders_cannot_be_exchanged_the_metadata_comes_last(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    factories.make_run(workspace)
    publishing.publish(workspace, "run-001")
    assert published(workspace) == "run-001"
    assert torture.leftovers(workspace) == []


@pytest.mark.parametrize("exchanges", [True, False])
def test_hospitals_statistics_are_published_and_go_with_their_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    own = local_batchnorm.running_statistics(build_resnet18("local").state_dict())
    run = factories.make_run(
        workspace, statistics=local_batchnorm.serialise_statistics({"AIIMS Delhi": own}), statistics_of="AIIMS Delhi"
    )
    factories.make_run(workspace)
    publishing.publish(workspace, "run-001")
    assert (workspace.models / artifacts.STATISTICS).read_bytes() == (run / artifacts.STATISTICS).read_bytes()
    artifacts.verify(workspace, "run-001")
    publishing.publish(workspace, "run-002")
    assert not (workspace.models / artifacts.STATISTICS).exists()
    assert published(workspace) == "run-002"


def test_a_reader_never_sees_half_of_a_published_model(workspace: Workspace) -> None:
    for number in range(2):
        factories.make_run(workspace, model=bytes([number]) * 1000)
    publishing.publish(workspace, "run-001")
    folders = {
        run: {name: (workspace.artifacts / run / name).read_bytes() for name in artifacts.PUBLISHED}
        for run in ("run-001", "run-002")
    }

    def swap() -> None:
        for number in range(60):
            atomic.replace_files(workspace.models, folders[f"run-00{1 + number % 2}"])

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(swap)
        while not writing.done():
            held = os.open(workspace.models, os.O_RDONLY)  # one folder, whatever its name leads to meanwhile
            try:
                both = [Path(f"/proc/self/fd/{held}", name).read_bytes() for name in (artifacts.META, artifacts.MODEL)]
            except FileNotFoundError:
                continue  # this folder has been replaced and is being removed
            finally:
                os.close(held)
            assert both in [[files[artifacts.META], files[artifacts.MODEL]] for files in folders.values()]
        writing.result()


def test_a_run_killed_at_any_moment_is_resumed_to_the_same_bits(workspace: Workspace) -> None:
    torture.make_workspace(workspace.root)
    assert torture.finish(workspace.root) == ""
    expected, row = torture.model_of(workspace, "run-001"), torture.Row("short")
    torture.attempt(workspace, row, expected, lambda root: torture.start(root, kill_at=40).end())
    assert row.lost == []
    assert row.outcomes == {"resumed to the same bits": 1}


def test_a_file_in_the_place_of_a_folder_is_reported_in_one_sentence_and_stays(workspace: Workspace) -> None:
    factories.make_run(workspace)
    workspace.models.write_text("in the way")
    with pytest.raises(ArtifactError, match="could not write models/: File exists"):
        publishing.publish(workspace, "run-001")
    assert workspace.models.read_text() == "in the way"
    (workspace.root / "cache").write_text("in the way")
    with pytest.raises(DataError, match="could not make cache/: File exists"):
        open_cache([(save(workspace.root / "a.png", texture(1)), "")], 64, workspace.root / "cache")


def test_simultaneous_sessions_get_answers_and_never_see_each_others_uploads(workspace: Workspace) -> None:
    for seed in range(2):
        factories.make_run(workspace, model=serialise(build_resnet18(seed=seed).state_dict()))
    visits = dashboard_load.crowd(workspace.root, sessions=4, seconds=10)
    assert visits.lost == []
    assert visits.predictions >= 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_reported_in_one_sentence_and_leaves_old_files_whole(tmp_path: Path) -> None:
    with torture.small_disk("300k") as folder:
        kept = folder / "kept.json"
        atomic.write_bytes(kept, b"old")
        with pytest.raises(ArtifactError, match=r"could not write .*kept\.json: No space left on device"):
            atomic.write_bytes(kept, b"x" * 10**6)
        assert kept.read_bytes() == b"old"
        files = [(save(tmp_path / f"{seed}.png", texture(seed)), "") for seed in range(90)]
        with pytest.raises(DataError, match="no space for the decoded images in cache/: No space left on device"):
            open_cache(files, 96, folder / "cache")
        assert [entry.name for entry in folder.iterdir()] == ["kept.json", "cache"] or not list(
            (folder / "cache").iterdir()
        )
