"""Runs side by side, as tables and as text."""

from pathlib import Path

import factories

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
    lines = run_comparison.difference(workspace, "run-001", "run-002").splitlines()
    assert [line.split() for line in lines] == [["run-001", "run-002"], ["rounds", "6", "7"]]
    assert run_comparison.difference(workspace, "run-001", "run-001") == "run-001 and run-001 do not differ"
