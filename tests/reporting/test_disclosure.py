"""The list of what leaves a hospital is one: in the documentation, and for each run as it was configured."""

from pathlib import Path

import pytest

from medisync.config import TrainingConfig
from medisync.reporting import disclosure
from medisync.schemas import RunRecord, Transport

DOCS = Path(__file__).parent.parent.parent / "docs/privacy.md"


def run(transport: Transport = "in one process", **training: object) -> RunRecord:
    return RunRecord(
        status="completed",
        run="run-001",
        synthetic=True,
        started_at="",
        finished_at="",
        log="",
        configuration={"training": {**TrainingConfig().model_dump(mode="json"), **training}},
        software={},
        transport=transport,
        files={},
    )


def left(record: RunRecord) -> list[str]:
    return [f"{what}, {when}" for what, when in disclosure.leaving(record)["When"].items()]


def test_moments_leave_only_where_they_are_shared() -> None:
    assert "Adam's moments, every round" in left(run(adam_moments="shared"))
    assert not [each for each in left(run(adam_moments="fresh")) if "moments" in each]


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("group", []),
        ("averaged", ["BatchNorm's running statistics, every round"]),
        ("local", ["BatchNorm's running statistics, at the end"]),
    ],
)
def test_running_statistics_leave_only_where_there_are_any(normalisation: str, expected: list[str]) -> None:
    assert [each for each in left(run(normalisation=normalisation)) if "BatchNorm" in each] == expected


def test_a_simulation_lists_scans_and_a_networked_run_introduces_hospitals() -> None:
    simulated, networked = left(run()), left(run("over the network"))
    assert [each for each in simulated if each not in networked] == [
        "paths, classes, groups and hashes of all scans, and the scans that the executed notebook shows, in the run's folder"
    ]
    (introduced,) = (each for each in networked if each not in simulated)
    assert introduced.startswith("name, specialty, source")
    assert disclosure.introduction(run()) != disclosure.introduction(run("over the network"))


def test_the_documentation_has_the_same_table() -> None:
    found = disclosure.leaving_in_any_run()
    assert len(found) == len(disclosure.LEAVING)
    rows = [(str(found.index.name), *found.columns), *found.itertuples(name=None)]
    text = DOCS.read_text(encoding="utf-8")
    missing = [line for row in rows if (line := f"| {' | '.join(row)} |") not in text]
    assert missing == []
    assert disclosure.NOT_COVERED in " ".join(text.split())
