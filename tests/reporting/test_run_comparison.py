"""Runs side by side, as tables and as text."""

import shutil
from pathlib import Path

import factories
import pytest

from medisync.errors import ArtifactError
from medisync.reporting import run_comparison
from medisync.schemas import RunRecord
from medisync.workspace import artifacts

SPACE = "\N{NO-BREAK SPACE}"


def record(run: str, **configuration: object) -> RunRecord:
    return RunRecord(
        status="completed",
        run=run,
        synthetic=True,
        started_at="",
        finished_at="",
        log="",
        configuration=configuration,
        software={},
        files={},
    )


def test_only_parameters_that_differ_are_listed_also_beyond_what_is_shown() -> None:
    long = "x" * 3000
    first = record("run-001", training={"rounds": 6, "seed": 0, "note": long + "a"}, same=1)
    second = record("run-002", training={"rounds": 7, "note": long + "b"}, same=1)
    found = run_comparison.different_parameters([first, second])
    assert found.index.tolist() == ["training.rounds", "training.seed", "training.note"]
    assert found.loc["training.rounds"].tolist() == ["6", "7"]
    assert found.loc["training.seed"].tolist() == ["0", "–"]
    assert run_comparison.different_parameters([first, first]).empty


def test_text_names_the_run_its_accuracy_and_what_differs(tmp_path: Path) -> None:
    workspace = artifacts.locate(tmp_path)
    factories.make_run(workspace)
    factories.make_run(workspace, rounds=7)
    assert f"test accuracy 89.6{SPACE}% (86.6{SPACE}to{SPACE}92.1)" in run_comparison.listing(workspace)
    lowest = f"lowest of a hospital 76.5{SPACE}% at Tata Memorial Mumbai"  # (21 + 16 + 2) / 51
    assert lowest in run_comparison.listing(workspace)
    lines = run_comparison.difference(workspace, "run-001", "run-002").splitlines()
    assert [line.split() for line in lines] == [["run-001", "run-002"], ["rounds", "6", "7"]]
    assert run_comparison.difference(workspace, "run-001", "run-001") == "run-001 and run-001 do not differ"


def test_a_copied_and_a_renamed_run_are_called_what_their_folders_are_called(tmp_path: Path) -> None:
    workspace = artifacts.locate(tmp_path)
    folder = factories.make_run(workspace)
    shutil.copytree(folder, folder.with_name("run-007"))
    shutil.copytree(folder, folder.with_name("run-001 copy"))
    listed = artifacts.list_runs(workspace)
    assert [(each.name, each.record.run if each.record else "", each.note) for each in listed] == [
        ("run-007", "run-007", "run-007 says it is run-001: a copy"),
        ("run-001", "run-001", ""),
        ("run-001 copy", "run-001 copy", "run-001 copy says it is run-001: a copy"),
    ]
    lines = run_comparison.listing(workspace).splitlines()
    assert [line[:14] for line in lines] == ["run-007       ", "run-001       ", "run-001 copy  "]
    assert lines[0].endswith("(run-007 says it is run-001: a copy)")
    assert run_comparison.difference(workspace, "run-001", "run-001 copy") == "run-001 and run-001 copy do not differ"
    folder.rename(folder.with_name("run-003"))
    assert artifacts.list_runs(workspace)[1].note == "run-003 says it is run-001: it was renamed"


def test_a_run_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    workspace = artifacts.locate(tmp_path)
    with pytest.raises(ArtifactError, match=r"^run-99: no such run \(there are: none\)$"):
        artifacts.run_folder(workspace, "run-99")
    factories.make_run(workspace)
    for name in ("run-99", "../artifacts/run-001", "", "."):
        with pytest.raises(ArtifactError, match=rf"^{name}: no such run \(there are: run-001\)$"):
            artifacts.run_folder(workspace, name)
    assert artifacts.run_folder(workspace, "run-001") == workspace.artifacts / "run-001"
