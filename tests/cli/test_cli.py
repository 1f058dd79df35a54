"""The commands as a person types them: exit codes, one line per mistake, CSV and JSON for other programs."""

import csv
import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import dashboard_load
import factories
import nbformat
import numpy as np
import pytest
from bad_inputs import PNG, archive, dicom, nifti
from nbformat.v4 import new_code_cell, new_notebook
from scans import hospital, save, texture

from medisync import notebook
from medisync.cli import training
from medisync.cli.main import main
from medisync.config import DEMO_PARAMETERS
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.phantom.hospitals import write_hospitals
from medisync.schemas import LABELS
from medisync.workspace import artifacts, publishing
from medisync.workspace.artifacts import Workspace

ROOT = Path(__file__).parent.parent.parent
BEGIN_RUN = """
from medisync.workspace import artifacts
artifacts.allocate(artifacts.locate())
print(f"rounds {ROUNDS}, deadline {ROUND_DEADLINE}")
"""
TINY = ["-p", "IMAGE_SIZE", "32", "-p", "IMAGE_SIZE_SCHEDULE", "constant", "-p", "ROUNDS", "1", "-p", "BASELINES", "[]"]
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = artifacts.locate(tmp_path / "workspace")
    found.dataset.mkdir(parents=True)
    return found


@pytest.fixture
def trained(workspace: Workspace) -> Workspace:
    """A workspace with a published, untrained model."""
    run = factories.make_run(workspace, model=serialise(build_resnet18().state_dict()))
    publishing.publish(workspace, run.name)
    return workspace


def medisync(workspace: Workspace, command: str, *arguments: object) -> int:
    return main([command, "--workspace", str(workspace.root), *map(str, arguments)])


def test_demo_replaces_the_notebooks_parameters(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr("medisync.cli.training._execute_notebook", lambda _, parameters: seen.append(parameters))
    assert medisync(workspace, "train", "-p", "ROUNDS", "3") == 0
    assert medisync(workspace, "train", "--demo", "-p", "ROUNDS", "3") == 0
    assert seen == [{"ROUNDS": 3}, {**DEMO_PARAMETERS, "ROUNDS": 3}]


def test_p_sets_parameters_of_both_cells(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Papermill injects the values after the tagged cell; a later cell would overwrite them."""
    cells = [new_code_cell(each) for each in ("ROUNDS = 600", "ROUND_DEADLINE = 3600", BEGIN_RUN)]
    cells[1].metadata["tags"] = ["parameters"]
    (tmp_path / "two.ipynb").write_text(nbformat.writes(new_notebook(cells=cells, metadata=PYTHON)))
    monkeypatch.setattr(notebook, "PATH", tmp_path / "two.ipynb")
    monkeypatch.setattr(training, "print_result", lambda workspace, run: None)
    monkeypatch.setattr(notebook, "configuration", lambda parameters: None)
    assert notebook.literals() == {"ROUNDS": 600, "ROUND_DEADLINE": 3600}
    assert medisync(workspace, "train", "-p", "ROUNDS", "3", "-p", "ROUND_DEADLINE", "5") == 0
    shown = capfd.readouterr()
    assert "rounds 3, deadline 5" in shown.out
    assert "unknown parameter" not in shown.err


def test_no_cell_of_the_notebook_overwrites_what_p_sets() -> None:
    cells = nbformat.read(notebook.PATH, 4).cells
    (tagged,) = (place for place, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    later = "\n".join(cell.source for cell in cells[tagged + 1 :] if cell.cell_type == "code")
    assert not set(re.findall(r"^([A-Z_]+) = ", later, re.M)) & notebook.literals().keys()


def test_help_names_every_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "medisync", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("demo", "train", "serve", "audit", "predict", "evaluate", "download", "runs"):
        assert f"\n    {command} " in shown.stdout
    assert "Research use only" in shown.stdout


@pytest.mark.parametrize("arguments", [[], ["fly"], ["runs", "--fast"], ["evaluate"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_predict_writes_a_row_per_image(trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        save(tmp_path / "scans" / f"{seed}.png", texture(seed, 150))
    assert medisync(trained, "predict", tmp_path / "scans") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["path"]).name for row in rows] == ["1.png", "2.png"]
    for row in rows:
        assert row["label"] in LABELS
        assert sum(float(row[label]) for label in LABELS) == pytest.approx(1, abs=1e-3)


@pytest.fixture
def judging(workspace: Workspace) -> Workspace:
    """A workspace with a published, untrained model that answers every scan with doubt, and knows its hospitals."""
    run = factories.make_run(workspace, model=serialise(build_resnet18().state_dict()), thresholds=(0, 1.1))
    publishing.publish(workspace, run.name)
    return workspace


def test_predict_says_its_verdicts_and_the_prior(
    judging: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = save(tmp_path / "scan.png", texture(1, 150))
    assert medisync(judging, "predict", scan) == 0
    elsewhere = capsys.readouterr()
    assert elsewhere.err.splitlines() == [
        "read 1 scan; verdicts: 0 answer, 1 doubt, 0 no answer",
        "Prior: none; the scan may come from anywhere.",
    ]
    assert medisync(judging, "predict", scan, "--hospital", "Tata Memorial Mumbai") == 0
    at_hospital = capsys.readouterr()
    assert "Prior of Tata Memorial Mumbai, which has no training scans without a tumour: " in at_hospital.err
    ((anywhere,), (own,)) = (list(csv.DictReader(io.StringIO(each.out))) for each in (elsewhere, at_hospital))
    assert (anywhere["verdict"], anywhere["reasons"]) == ("doubt", "moderate confidence")
    odds = [float(row["notumor"]) / (1 - float(row["notumor"])) for row in (anywhere, own)]
    assert odds[1] < odds[0]


def test_evaluate_says_what_is_answered_and_how_often_wrongly(
    judging: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "held-out/glioma/1.png", texture(1))
    save(tmp_path / "held-out/other/2.png", texture(2))
    assert medisync(judging, "evaluate", tmp_path / "held-out", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["answered_without_doubt"] == figures["answered_without_doubt_other"] == {"coverage": 0, "risk": None}
    assert figures["answered"] == {"coverage": 1, "risk": 1 - figures["accuracy"]}
    assert figures["answered_other"] == {"coverage": 1, "risk": 1}
    assert figures["selective"]["answered"] == figures["answered"]
    assert medisync(judging, "evaluate", tmp_path / "held-out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "answered without doubt other coverage 0.0000, risk undefined" in lines
    assert "answered other               coverage 1.0000, risk 1.0000" in lines


def test_predict_keeps_the_rows_of_unreadable_files_and_exits_with_1(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "good.png", texture(1))
    (tmp_path / "bad.png").write_text("no image")
    target = tmp_path / "out.csv"
    assert medisync(trained, "predict", good, tmp_path / "bad.png", "--output", target) == 1
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert [row["label"] != "" for row in rows] == [True, False]
    assert "not an image" in rows[1]["note"]
    said = capsys.readouterr().err
    assert said == "read 1 scan\nmedisync: 1 of 2 scans could not be read; their rows say why\n"


def test_the_dashboard_ends_with_the_command_that_serves_it(workspace: Workspace) -> None:
    with dashboard_load.served(workspace.root) as (address, command):
        assert command.children() == []
        command.kill()
        command.wait()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://{address}/_stcore/health")


def test_predict_without_a_model_says_how_to_train_one(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = save(tmp_path / "scan.png", texture(1))
    assert medisync(workspace, "predict", scan) == 1
    said = capsys.readouterr().err
    assert "no model in" in said
    assert "`medisync train`" in said
    assert "Traceback" not in said


def test_evaluate_prints_json_for_programs(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "held-out/glioma/1.png", texture(1))
    save(tmp_path / "held-out/notumor/2.png", texture(2))
    assert medisync(trained, "evaluate", tmp_path / "held-out", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == {
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "per_class_recall",
        "confusion_matrix",
        "ece",
        "out_of_distribution_share",
        "confidently_wrong",
        "confidently_wrong_other",
        "tumour_auc",
        "tumour_auc_external_healthy",
        "tumour_auc_external_tumours",
        "ood_auc_known",
        "ood_fpr95_known",
        "ood_auc_other",
        "ood_fpr95_other",
        "n",
        "n_per_class",
        "n_other",
        "intervals",
        "per_class_recall_intervals",
        "reliability",
        "selective",
        "other_selective",
        "left_out",
    }
    assert (figures["n"], figures["n_other"]) == (2, 0)
    assert medisync(trained, "evaluate", tmp_path / "held-out", "--run", "run-001") == 0
    assert "balanced accuracy" in capsys.readouterr().out


def test_evaluate_takes_folders_of_scans_that_are_of_none_of_the_classes(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "held-out/Metastases/1.png", texture(1))
    save(tmp_path / "held-out/other/2.png", texture(2))
    assert medisync(trained, "evaluate", tmp_path / "held-out", "--json", "--other", "metastases") == 0
    assert json.loads(capsys.readouterr().out)["n_other"] == 2
    assert medisync(trained, "evaluate", tmp_path / "held-out", "--other", "glioma") == 2
    assert "--other glioma: a folder of this name stands for glioma" in capsys.readouterr().err


def test_predict_says_what_it_left_out_or_found_instead_of_scans(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CD").mkdir()
    (tmp_path / "CD/notes").write_text("text")
    (tmp_path / "CD/more.zip").write_bytes(archive({"a.png": PNG}))
    assert medisync(trained, "predict", tmp_path / "CD") == 1
    found = "1 archive inside the folder, not opened (more.zip), 1 text file (notes)"
    expected = "expected PNG, JPEG, TIFF, WebP, BMP, GIF, DICOM or NIfTI files"
    assert f"{expected}; found {found}\n" in capsys.readouterr().err
    (tmp_path / "CD/IM000001").write_bytes(dicom())
    assert medisync(trained, "predict", tmp_path / "CD") == 0
    shown = capsys.readouterr()
    assert shown.err == f"read 1 scan; left out 2 files: {found}\n"
    assert [row["path"] for row in csv.DictReader(io.StringIO(shown.out))] == [str(tmp_path / "CD/IM000001")]


def test_predict_of_one_slice_and_of_all(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.stack([texture(k, 96) for k in range(3)], axis=2).astype(np.float32)
    values[..., 2] = 0
    (tmp_path / "head.nii").write_bytes(nifti(values))
    for arguments, slices in (((), ["2"]), (("--slice", "1"), ["1"]), (("--all-slices",), ["1", "2", "3"])):
        assert medisync(trained, "predict", tmp_path / "head.nii", *arguments) == 0
        shown = capsys.readouterr()
        rows = list(csv.DictReader(io.StringIO(shown.out)))
        assert [(row["slice"], row["slices"]) for row in rows] == [(number, "3") for number in slices]
        assert shown.err == "read 1 scan\n"
    assert rows[2]["label"] == ""
    assert medisync(trained, "predict", tmp_path / "head.nii", "--slice", "4") == 1
    assert "slice 4 was asked for, the file has 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [["--slice", "0"], ["--slice", "-1"], ["--slice", "x"], ["--slice", "1", "--all-slices"]]
)
def test_predict_of_no_slice_is_wrong_usage(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "scan.nii", *options])
    assert stop.value.code == 2


def test_evaluate_uses_the_class_maps_of_the_run_and_says_what_it_leaves_out(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "held-out"
    record = trained.artifacts / "run-001" / artifacts.RUN
    run = json.loads(record.read_text())
    hospitals = [hospital("North", "north", {"gliome": "glioma"}), hospital("South", "south", {"gliome": "meningioma"})]
    run["configuration"]["hospitals"] = [each.model_dump(mode="json") for each in hospitals]
    record.write_text(json.dumps(run))
    save(held_out / "Testing/gliome/1.png", texture(1))
    (held_out / "notes.txt").write_text("text")
    assert medisync(trained, "evaluate", held_out) == 1
    assert "gliome/ (1 scan; it stands for glioma at North but meningioma at South" in capsys.readouterr().err
    assert medisync(trained, "evaluate", held_out, "--hospital", "South", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_per_class"]["meningioma"] == 1
    assert shown.err == "left out 1 file: 1 text file (notes.txt)\n"
    assert medisync(trained, "evaluate", held_out, "--hospital", "West") == 2
    assert "'West' is no hospital of the run" in capsys.readouterr().err
    save(held_out / "yes/1.png", texture(2))
    save(held_out / "glioma/1.png", texture(3))
    assert medisync(trained, "evaluate", held_out, "--run", "run-001") == 0
    assert "not scored: yes/ (1 scan; a tumour of no particular class" in capsys.readouterr().err


def test_a_hospital_without_its_own_statistics_is_wrong_usage(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = save(tmp_path / "scan.png", texture(1))
    assert medisync(trained, "predict", scan, "--hospital", "AIIMS Delhi") == 2
    assert (
        "'AIIMS Delhi': the model is the same for scans of all hospitals; name no hospital" in capsys.readouterr().err
    )


def test_audit_exits_with_1_if_a_hospital_has_no_images(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("dataset-1", "dataset-2"):
        save(workspace.dataset / folder / "glioma/1.png", texture(len(folder)))
    target = workspace.root / "audit.json"
    assert medisync(workspace, "audit", "--json", target) == 1
    shown = capsys.readouterr()
    assert "Tata Memorial Mumbai: " in shown.err
    assert "1 usable images in dataset-1" in shown.out
    listed = json.loads(target.read_text())["images"]
    assert {key: listed[0][key] for key in ("hospital", "path", "label", "status")} == {
        "hospital": "AIIMS Delhi",
        "path": "dataset-1/glioma/1.png",
        "label": "glioma",
        "status": "quarantined" if listed[0]["status"] == "quarantined" else "ok",
    }


def test_audit_and_train_stop_at_a_list_of_patients_that_fits_nothing(workspace: Workspace) -> None:
    write_hospitals(workspace.dataset, seed=3, scale=0.03)
    listed = workspace.dataset / "dataset-2/patients.csv"
    listed.write_text("path,patient\nscan-1.jpg,SECRET\nscan-2.jpg,SECRET\n")
    for command in (["audit"], ["train", "--demo", "-p", "ROUNDS", "1"]):
        shown = subprocess.run(
            [sys.executable, "-m", "medisync", *command, "--workspace", workspace.root],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 1
        (line,) = (each for each in shown.stderr.splitlines() if each.startswith("medisync: "))
        assert "dataset-2/patients.csv: none of its 2 rows fits an image: the list says 'scan-1.jpg'" in line
        assert "SECRET" not in shown.stdout + shown.stderr
        assert "WARNING" not in shown.stderr  # the kernel's remark on encryption


def test_train_says_what_the_audit_found_before_it_trains(workspace: Workspace) -> None:
    write_hospitals(workspace.dataset, seed=3, scale=0.03)
    listed = workspace.dataset / "dataset-2/patients.csv"
    head, *rows = listed.read_text().splitlines()
    listed.write_text("\n".join([head, *(row.replace("/", "\\") for row in rows[:5])]))
    shown = subprocess.run(
        [sys.executable, "-m", "medisync", "train", "--workspace", workspace.root, *TINY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for line in (
        "AIIMS Delhi: 19 usable images; left out: 2 unreadable, 2 quarantined",
        "warning: NIMHANS Bengaluru: the patient list covers 5 of 46 usable images; ",
        "warning: Tata Memorial Mumbai: folder 'brain_other' is not in the class map: 9 images left out",
    ):
        assert line in shown.stdout
        assert shown.stdout.index(line) < shown.stdout.index("test accuracy")
    assert "WARNING" not in shown.stderr
    assert (
        "The patient list covers 5 of 46 images of NIMHANS Bengaluru"
        in (workspace.models / "MODEL_CARD.md").read_text()
    )
    (log,) = workspace.logs.glob("*/training.log")
    assert "WARNING NIMHANS Bengaluru: the patient list covers 5 of 46" in log.read_text()
    assert "patient list covers 5 of 46" in (workspace.artifacts / "run-001/notebook.ipynb").read_text()


def test_runs_lists_and_compares(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    factories.make_run(trained)
    assert medisync(trained, "runs") == 0
    listing = capsys.readouterr().out
    assert "run-001" in listing
    assert "run-002" in listing
    assert medisync(trained, "runs", "--compare", "run-001", "run-009") == 1
    assert "run-009" in capsys.readouterr().err


def test_demo_without_training_makes_the_phantoms_once(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medisync.phantom.hospitals.write_hospitals", partial(write_hospitals, scale=0.05))
    assert medisync(workspace, "demo", "--no-train") == 0
    marker = workspace.dataset / "PHANTOM.json"
    before = marker.stat().st_mtime_ns
    assert medisync(workspace, "demo", "--no-train") == 0
    assert marker.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("making phantom hospitals") == 1


def test_demo_never_overwrites_real_scans(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    scan = save(workspace.dataset / "dataset-1/glioma/real.png", texture(1))
    before = scan.read_bytes()
    assert medisync(workspace, "demo", "--no-train") == 1
    assert "already exists" in capsys.readouterr().err
    assert scan.read_bytes() == before


def test_debug_shows_the_traceback(workspace: Workspace) -> None:
    from medisync.errors import MediSyncError

    with pytest.raises(MediSyncError):
        medisync(workspace, "predict", ROOT / "nowhere.png", "--debug")


COMMANDS = ("runs", "audit", "serve", "train", "download")


@pytest.mark.parametrize("command", [*COMMANDS, "evaluate x", "federation local"])
def test_a_mistyped_workspace_is_refused_with_what_may_be_meant(
    workspace: Workspace, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = workspace.root.parent / "worksapce"
    assert main([*command.split(), "--workspace", str(wrong)]) == 2
    said = f"medisync: --workspace: there is no folder {wrong}; did you mean {workspace.root}?\n"
    assert capsys.readouterr().err == said
    assert list(workspace.root.parent.iterdir()) == [workspace.root]


def test_a_mistyped_variable_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(tmp_path / "qqq"))
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == f"medisync: MEDISYNC_WORKSPACE: there is no folder {tmp_path / 'qqq'}\n"


@pytest.mark.parametrize(
    "command", [["evaluate", "x", "--run"], ["train", "--resume"], ["runs", "--compare", "run-001"]]
)
def test_an_unknown_run_is_answered_with_those_that_there_are(
    trained: Workspace, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "run-99", "--workspace", str(trained.root)]) == 1
    assert capsys.readouterr().err == "medisync: run-99: no such run (there are: run-001)\n"


@pytest.mark.parametrize("command", [["train"], ["federation", "local"]])
def test_training_in_the_wrong_folder_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.delenv("MEDISYNC_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"medisync: there is no folder dataset/ in {tmp_path}, so nothing was begun; start in the")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_in_the_wrong_folder_says_so_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the notebook, started in another folder by any program, such as Jupyter or papermill."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    monkeypatch.delenv("MEDISYNC_WORKSPACE", raising=False)
    (tmp_path / "copied.ipynb").write_bytes(notebook.PATH.read_bytes())
    with pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(tmp_path / "copied.ipynb", None, cwd=tmp_path, progress_bar=False)
    assert f"there is no folder dataset/ in {tmp_path}, so nothing was begun" in error.value.evalue
    assert [file.name for file in tmp_path.iterdir()] == ["copied.ipynb"]
