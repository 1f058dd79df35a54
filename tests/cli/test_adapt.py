"""`medisync adapt` as a person types it, and predictions for the hospital that it named."""

import csv
import io
import re
from pathlib import Path

import factories
import pytest
from scans import save, texture

from medisync.cli.main import main
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.workspace import artifacts, publishing
from medisync.workspace.artifacts import Workspace


@pytest.fixture
def trained(tmp_path: Path) -> Workspace:
    """A workspace with a published, untrained model, which answers with one class."""
    workspace = artifacts.locate(tmp_path / "workspace")
    run = factories.make_run(workspace, model=serialise(build_resnet18(seed=3).state_dict()))
    publishing.publish(workspace, run.name)
    return workspace


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(55):
        save(folder / f"{seed}.png", texture(seed, 150))
    (folder / "broken.png").write_bytes(b"no")
    (folder / "notes.txt").write_text("text")
    return folder


def medisync(workspace: Workspace, command: str, *arguments: object) -> int:
    return main([command, "--workspace", str(workspace.root), *map(str, arguments)])


def test_scans_of_a_hospital_are_predicted_as_it_estimated(
    trained: Workspace, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (trained.models / artifacts.MODEL).read_bytes()
    assert medisync(trained, "adapt", scans, "--name", "South Clinic") == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("read 55 scans; left out 2 files: 1 text file (notes.txt), 1 unreadable scan: ")
    assert re.search(r"^prior +assumed +estimated +95 % interval +used\nglioma +40.0 % +\d+\.\d %", shown.out, re.M)
    assert "from 55 scans; 0 more are out of distribution\nOOD threshold 1000000000.000 before, 500000000" in shown.out
    assert "wrote " in shown.out
    assert "adaptation-south-clinic.json; predict scans of this hospital with --hospital 'South Clinic'\n" in shown.out
    assert (trained.models / artifacts.MODEL).read_bytes() == weights
    rows = []
    for origin in ((), ("--hospital", "South Clinic")):
        assert medisync(trained, "predict", scans / "1.png", *origin) == 0
        rows += list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    likeliest = rows[1]["label"]
    assert float(rows[1][likeliest]) > float(rows[0][likeliest]) + 0.1


def test_what_cannot_be_estimated_is_one_line_and_writes_nothing(
    trained: Workspace, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "few/1.png", texture(1, 150))
    for folder, said in (
        ("few", "1 scan can be used (1 read, 0 of them out of distribution), at least 50 are needed; bring more."),
        ("nowhere", "no such file or folder"),
    ):
        assert medisync(trained, "adapt", tmp_path / folder, "--name", "South") == 1
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("medisync: "))
        assert said in line
    assert medisync(trained, "adapt", scans, "--name", "\x1b[2J") == 2
    assert "expected the name of a hospital, of 1 to 80 characters that can be seen" in capsys.readouterr().err
    assert not list(trained.models.glob("adaptation*"))


def test_a_new_model_needs_a_new_adaptation(
    trained: Workspace, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medisync(trained, "adapt", scans, "--name", "South") == 0
    run = factories.make_run(trained, model=serialise(build_resnet18(seed=4).state_dict()))
    publishing.publish(trained, run.name)
    capsys.readouterr()
    assert medisync(trained, "predict", scans / "1.png", "--hospital", "South") == 1
    said = capsys.readouterr().err
    assert "adaptation-south.json is for another model" in said
    assert "estimate it anew with `medisync adapt DIR --name South`" in said
    assert medisync(trained, "adapt", scans, "--name", "South", "--run", "run-002") == 0
    assert (trained.artifacts / "run-002/adaptation-south.json").is_file()
    assert medisync(trained, "predict", scans / "1.png", "--hospital", "South", "--run", "run-002") == 0


def test_a_name_is_needed() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["adapt", "scans"])
    assert stop.value.code == 2
