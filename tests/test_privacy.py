"""Patients' names enter in every field that a file format has for them, and must appear in nothing that is written."""

import io
import logging
import zipfile
from pathlib import Path

import bad_inputs
import pytest
from app_pages import new_app
from bad_inputs import PATIENT, PATIENT_ID

from medisync.cli.main import main
from medisync.imaging.decoding import decode
from medisync.imaging.preprocessing import standardise
from medisync.inference.explanation import explain
from medisync.inference.predictor import load, predict
from medisync.phantom.hospitals import write_hospitals
from medisync.reporting import pdf
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

ROOT = Path(__file__).parent.parent
NAMED = {"exif.jpg": bad_inputs.named_jpeg(), "text.png": bad_inputs.named_png(), "scan.dcm": bad_inputs.dicom()}
TINY = {"IMAGE_SIZE": 32, "IMAGE_SIZE_SCHEDULE": "constant", "ROUNDS": 1, "BASELINES": "[]", "DEVICE": "cpu"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after a whole run, executed notebook included, on a dataset that holds files with names in them."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("workspace"))
    write_hospitals(workspace.dataset, seed=3, scale=0.03)
    for name in NAMED:
        (workspace.dataset / "dataset-1/glioma" / name).write_bytes(NAMED[name])
        (workspace.dataset / "dataset-1/glioma" / f"half-{name}").write_bytes(bad_inputs.half(NAMED[name]))
    parameters = [word for name, value in TINY.items() for word in ("-p", name, str(value))]
    assert main(["train", "--workspace", str(workspace.root), *parameters]) == 0
    return workspace


def written(workspace: Workspace) -> dict[str, bytes]:
    """Returns everything in the workspace but the dataset, with the members of archives."""
    found = {}
    for file in workspace.root.rglob("*"):
        if file.is_file() and workspace.dataset not in file.parents:
            data = file.read_bytes()
            found[str(file.relative_to(workspace.root))] = data
            if zipfile.is_zipfile(io.BytesIO(data)):
                with zipfile.ZipFile(io.BytesIO(data)) as members:
                    found |= {f"{file.name}: {name}": members.read(name) for name in members.namelist()}
    return found


def named_in(data: bytes) -> bool:
    return any(secret.encode(code) in data for secret in (PATIENT, PATIENT_ID) for code in ("utf-8", "utf-16-le"))


def test_the_planted_names_can_be_found() -> None:
    assert all(named_in(data) for data in NAMED.values())


def test_a_run_writes_no_patients_name_and_no_path_of_the_machine(workspace: Workspace) -> None:
    split = artifacts.read(workspace.artifacts / "run-001", artifacts.SPLITS)
    used = {image.path for part in split.hospitals.values() for image in (*part.train, *part.val, *part.test)}
    assert {f"dataset-1/glioma/{name}" for name in NAMED} <= used  # they took part
    files = written(workspace)
    assert {"artifacts/run-001/notebook.ipynb", "models/model_meta.json"} <= files.keys()
    assert [name for name, data in files.items() if named_in(data)] == []
    places = [str(place).encode() for place in (workspace.root, ROOT, Path.home()) if str(place) != "/"]
    assert [name for name, data in files.items() if any(place in data for place in places)] == []


def test_uploads_are_neither_written_nor_named_in_a_log(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(workspace.root))
    caplog.set_level(logging.DEBUG)
    before = written(workspace)
    app = new_app().run()
    app.switch_page(str(ROOT / "medisync/dashboard/pages/prediction.py")).run()
    sent = [(f"{PATIENT}-{name}", data, "image/png") for name, data in NAMED.items()]
    sent.append(
        (f"{PATIENT}.zip", bad_inputs.archive({f"{PATIENT_ID}/{n}": data for n, data in NAMED.items()}), "image/png")
    )
    app.file_uploader[0].set_value(
        [*sent, (f"{PATIENT}-half.png", bad_inputs.half(NAMED["text.png"]), "image/png")]
    ).run()
    assert not app.exception
    assert len(app.dataframe[0].value) == 7
    assert written(workspace) == before
    said = caplog.text + "".join(capfd.readouterr())
    assert PATIENT not in said
    assert PATIENT_ID not in said


def test_a_report_names_neither_the_file_nor_the_patient(workspace: Workspace) -> None:
    from pypdf import PdfReader

    run = workspace.artifacts / "run-001"
    meta = artifacts.read(run, artifacts.META)
    classifier = load(run / artifacts.MODEL, run / artifacts.DISTRIBUTION, meta)
    for data in NAMED.values():
        prediction = predict(classifier, data)
        pixels = standardise(decode(data).pixels, meta.image_size)
        heat = explain(classifier, pixels, prediction.label)
        report = pdf.write(pixels, heat, prediction, {}, meta, artifacts.now())
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(report)).pages)
        assert not named_in(report)
        assert not named_in(text.encode())


def test_predict_prints_nothing_that_a_file_says_about_its_patient(
    workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in NAMED.items():
        (tmp_path / name).write_bytes(data)
    assert main(["predict", "--workspace", str(workspace.root), str(tmp_path)]) == 0
    said = "".join(capfd.readouterr())
    assert "look for names before sharing it" in said  # the DICOM file may have text burned in
    assert PATIENT not in said
    assert PATIENT_ID not in said
