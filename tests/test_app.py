"""Every page of the dashboard with a run, without one, and with an unreadable one; no browser needed."""

import ast
import io
import shutil
import subprocess
import sys
from pathlib import Path

import factories
import nibabel
import numpy as np
import pytest
from app_pages import new_app, open_page, switch
from bad_inputs import archive, dicom
from PIL import Image
from scans import save, texture
from streamlit.testing.v1 import AppTest

from medisync import notebook
from medisync.dashboard import data, predictions, session_uploads
from medisync.inference import predictor
from medisync.model import local_batchnorm
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.reporting import formatting
from medisync.schemas import LABELS, Label, Progress
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

PAGES = {
    "overview": "Overview",
    "hospitals": "Hospitals",
    "data_audit": "Data audit",
    "training": "Training",
    "evaluation": "Evaluation",
    "prediction": "Prediction",
    "runs": "Runs",
    "logs": "Logs",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(tmp_path))
    return artifacts.locate()


@pytest.fixture(scope="session")
def weights() -> bytes:
    return serialise(build_resnet18().state_dict())


def words(app: AppTest) -> str:
    """Returns all text of the page."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.text, app.code)
    kinds += (app.error, app.warning, app.info, app.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


SCAN = png(np.add.outer(np.arange(160), np.arange(160)).astype(np.uint8))


@pytest.mark.parametrize("name", PAGES)
def test_page_shows_the_run(workspace: Workspace, name: str) -> None:
    factories.make_run(workspace)
    app = open_page(name)
    assert [title.value for title in app.title] == [PAGES[name]]
    assert not app.error
    assert "Synthetic data." in app.warning[0].value


def test_pages_are_hidden_until_sign_in_if_sign_in_is_configured(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = new_app()
    app.secrets["auth"] = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x", "client_id": "x"}
    app.run()
    assert not app.exception
    assert [title.value for title in app.title] == ["Sign in"]
    assert not app.metric
    assert not app.sidebar.selectbox


@pytest.mark.parametrize("name", PAGES)
def test_page_without_a_run_says_what_to_do(workspace: Workspace, name: str) -> None:
    app = open_page(name)
    assert [title.value for title in app.title] == ["No run to show yet"]
    assert [code.value for code in app.code] == ["make demo", "medisync train"]
    assert "notebook.ipynb" in words(app)


@pytest.mark.parametrize("name", PAGES)
def test_unreadable_newest_run_does_not_hide_an_older_one(workspace: Workspace, name: str) -> None:
    factories.make_run(workspace)
    (factories.make_run(workspace) / "run.json").write_text('{"status": "comp')
    app = open_page(name)
    assert [title.value for title in app.title] == [PAGES[name]]
    assert app.sidebar.selectbox[0].value == "run-001"
    assert "1 not shown" in words(app)


def test_runs_page_gives_the_reason_for_each_unreadable_run(workspace: Workspace) -> None:
    (factories.make_run(workspace) / "run.json").write_text('{"status": "comp')
    artifacts.allocate(workspace)
    reasons = [warning.value for warning in open_page("runs").warning]
    assert reasons[0].startswith("**run\\-002:** not finished")
    assert reasons[1].startswith("**run\\-001:** run.json is damaged")


def test_run_whose_metadata_has_another_schema_counts_as_unreadable(workspace: Workspace) -> None:
    factories.make_run(workspace, without=artifacts.META)
    app = open_page("runs")
    assert "model\\_meta.json is missing" in words(app)
    assert not app.sidebar.selectbox


def test_a_workspace_of_unreadable_runs_points_to_the_page_with_the_reasons(workspace: Workspace) -> None:
    artifacts.allocate(workspace)
    assert "none is finished and readable" in words(open_page("overview"))


def test_a_missing_artifact_affects_only_the_page_that_needs_it(workspace: Workspace) -> None:
    factories.make_run(workspace, without=artifacts.AUDIT)
    assert "Audit.json is missing." in open_page("data_audit").error[0].value
    assert not open_page("overview").error


def test_the_picked_run_is_shown_on_every_page(workspace: Workspace) -> None:
    factories.make_run(workspace, synthetic=False)
    factories.make_run(workspace)
    app = open_page("training")
    assert app.sidebar.selectbox[0].value == "run-002"
    app.sidebar.selectbox[0].set_value("run-001").run()
    assert "Synthetic data." not in words(app)
    switch(app, "overview")
    assert "Synthetic data." not in words(app)
    assert "run\\-001 finished" in words(app)


def test_headline_figures_carry_their_intervals(workspace: Workspace) -> None:
    factories.make_run(workspace)
    accuracy = open_page("overview").metric[0]
    assert accuracy.label == "Accuracy"
    assert accuracy.value == "89.6\N{NO-BREAK SPACE}%"  # (113 + 85 + 91 + 74) / 405
    assert accuracy.delta == "86.6 to 92.1\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize("name", ["overview", "evaluation"])
def test_the_lowest_accuracy_of_a_hospital_stands_beside_the_mean(workspace: Workspace, name: str) -> None:
    factories.make_run(workspace)
    lowest = open_page(name).metric[1]
    assert (lowest.label, lowest.value) == ("Lowest accuracy", "76.5\N{NO-BREAK SPACE}%")  # (21 + 16 + 2) / 51
    assert lowest.proto.delta_description == "Tata Memorial Mumbai"


def test_evaluation_compares_with_the_alternatives(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = open_page("evaluation")
    title = (
        "Federated: more accurate than 1 of 1 local model; 1.2 points below the pooled model (95 % interval includes 0)"
    )
    assert f"##### {formatting.escape(title)}" in words(app)
    (differences,) = (each for each in app.expander if each.label.startswith("Federated minus"))
    table = differences.table[0].value
    assert table["Federated minus"].tolist() == ["AIIMS Delhi alone", "Pooled"]
    assert table["Points"].tolist() == ["+14.0", "-1.2"]
    assert table[formatting.escape("95 % interval")].tolist() == ["+9.0 to +19.0", "-3.0 to +0.6"]
    assert table["Interval excludes 0"].tolist() == ["yes", "no"]
    assert table["McNemar p"].tolist() == ["0.001", "0.210"]


def test_evaluation_without_a_comparison_shows_the_rest(workspace: Workspace) -> None:
    factories.make_run(workspace, without=artifacts.BASELINES)
    assert "Comparison with local and pooled training" not in words(open_page("evaluation"))


def test_evaluation_shows_how_the_model_does_outside_the_hospitals(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = open_page("evaluation")
    said = words(app)
    assert (
        formatting.escape("Confidently wrong: up to 20.0\N{NO-BREAK SPACE}% (other clinic: none of the classes)")
        in said
    )
    assert "70 scans evaluated; excluded: 3 copies of hospitals' scans, 1 unreadable" in said
    claims = next(table.value for table in app.table if "Wanted" in table.value)
    assert set(claims["Holds"]) == {"no"}
    assert "no external test set" not in said
    overview = words(open_page("overview"))
    assert (
        "Outside the hospitals, on other clinic: 45.0\N{NO-BREAK SPACE}% of 40 scans are given the right class"
        in overview
    )


def test_one_of_several_external_datasets_is_chosen(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = factories.external().values()
    others = found.model_copy(update={"known": None, "excluded": {}})
    monkeypatch.setattr(factories, "external", lambda **_: {"first": found, "*second*": others})
    factories.make_run(workspace)
    app = open_page("evaluation")
    assert "**first** (A collection; CC0)" in words(app)
    (box,) = (box for box in app.main.selectbox if box.label == "External dataset")
    box.set_value("*second*").run()
    assert not app.exception
    assert r"**\*second\*** (A collection; CC0)" in words(app)


def test_a_run_without_external_scans_says_how_to_add_them(workspace: Workspace) -> None:
    factories.make_run(workspace, without=artifacts.EXTERNAL)
    app = open_page("evaluation")
    assert "This run has no external test set" in app.info[0].value
    (entry,) = (code.value for code in app.code)
    names = notebook.literals()
    configuration = notebook.configuration({"DATASETS": {**names["DATASETS"], **ast.literal_eval("{" + entry + "}")}})
    assert [each.class_map["metastasis"] for each in configuration.external] == ["other"]
    assert "This run has no external test set" in words(open_page("overview"))


def test_evaluation_shows_the_attacks_and_what_leaves_a_hospital(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = open_page("evaluation")
    said = words(app)
    assert "0.5 is chance" in said
    assert "at all hospitals together, where the interval should end by 0.56" in said
    assert "Nothing in this table is covered by secure aggregation" in said
    assert "simulated its hospitals" in said


def test_evaluation_of_an_older_run_says_that_it_was_not_attacked(workspace: Workspace) -> None:
    factories.make_run(workspace, without=artifacts.MEMBERSHIP)
    app = open_page("evaluation")
    assert "This run was not attacked" in words(app)
    assert not app.error


def test_evaluation_of_one_hospital_leaves_undefined_metrics_undefined(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = open_page("evaluation")
    app.main.selectbox[0].set_value("NIMHANS Bengaluru").run()
    assert not app.exception
    per_class = app.table[0].value
    assert [cell == "–" for cell in per_class["Sensitivity"]] == [False, False, False, True]


def test_hospital_page_names_missing_classes_and_missing_scans(workspace: Workspace) -> None:
    factories.make_run(workspace)
    app = open_page("hospitals")
    app.segmented_control[0].set_value("NIMHANS Bengaluru").run()
    assert not app.exception
    assert "It has no scans of the class no tumour." in words(app)
    assert [metric.value for metric in app.metric[:2]] == ["690", "660"]  # found: 10 more of each of its 3 classes
    assert "The dataset is not on this machine" in words(app)


def test_hospital_page_shows_test_scans_if_the_dataset_is_there(workspace: Workspace) -> None:
    folder = factories.make_run(workspace, splits={"AIIMS Delhi": {"glioma": "one/a.png", "notumor": "one/gone.png"}})
    save(workspace.dataset / "one" / "a.png", texture(1, 80))
    assert (folder / artifacts.SPLITS).exists()
    app = open_page("hospitals")
    assert len(app.get("image")) == 1
    assert "not on this machine" not in words(app)


def test_logs_are_filtered_by_level_and_word(workspace: Workspace) -> None:
    folder = factories.make_run(workspace)
    record = artifacts.read(folder, artifacts.RUN)
    (workspace.logs / record.log / artifacts.LOG).write_text(
        "2026-11-24 10:00:00,001 INFO round 1/2: North\n"
        "2026-11-24 10:01:00,001 WARNING round 2: South was refused: *NaN*\n"
        "Traceback\n"
    )
    app = open_page("logs")
    assert len(app.dataframe[0].value) == 2
    app.main.selectbox[0].set_value("WARNING").run()
    assert app.dataframe[0].value["Message"].tolist() == ["round 2: South was refused: *NaN* Traceback"]
    app.text_input[0].set_value("north").run()
    assert not app.dataframe
    assert "No matching log lines." in words(app)


def test_a_run_without_its_log_says_so(workspace: Workspace) -> None:
    factories.make_run(workspace)
    assert "not in this workspace" in words(open_page("logs"))


def test_comparison_of_runs_lists_what_differs(workspace: Workspace) -> None:
    factories.make_run(workspace)
    factories.make_run(workspace, rounds=7)
    app = open_page("runs")
    tables = [table.value for table in app.table]
    assert tables[1].to_numpy().tolist() == [["rounds", "7", "6"]]
    assert tables[2].columns.tolist() == ["Measure", *map(formatting.escape, ("run-002", "run-001"))]
    assert len(tables[2]) == 4 * 3


def test_a_run_in_progress_is_followed(workspace: Workspace) -> None:
    factories.make_run(workspace)
    run = artifacts.allocate(workspace)
    standing = Progress(stage="training", round=2, rounds=5, hospital="North", images_per_second=81.4, seconds_left=90)
    artifacts.write(run.folder, artifacts.PROGRESS, standing.model_copy(update={"updated_at": artifacts.now()}))
    assert "**run\\-002** is training: round 2 of 5, North, 81 images/s, 2 min left" in words(open_page("training"))
    artifacts.write(
        run.folder, artifacts.PROGRESS, standing.model_copy(update={"updated_at": "2026-11-24T09:00:00+00:00"})
    )
    assert "is training" not in words(open_page("training"))


def test_copies_are_shown_side_by_side_and_a_mirrored_one_is_flipped_back(workspace: Workspace) -> None:
    factories.make_run(workspace)
    assert "The dataset is not on this machine" in words(open_page("data_audit"))
    scan = texture(1, 80)
    save(workspace.dataset / "dataset-1" / "glioma" / "G_1.jpg", scan)
    save(workspace.dataset / "dataset-2" / "glioma" / "7.png", scan[:, ::-1])
    app = open_page("data_audit")
    assert len(app.get("image")) == 2
    assert "The second image is mirrored; it is shown flipped back." in words(app)
    assert (data.picture("dataset-2/glioma/7.png", mirrored=True) == scan).all()
    assert data.picture("../outside.png") is None


def test_what_the_audit_does_not_know_of_patients_is_a_warning(workspace: Workspace) -> None:
    factories.make_run(workspace)
    warnings = [each.value for each in open_page("data_audit").warning]
    assert any(each.startswith("**NIMHANS Bengaluru:** The patient list covers 90 of ") for each in warnings)


@pytest.mark.parametrize("apart", [False, True])
def test_the_audit_of_external_datasets_says_what_is_evaluated_and_what_is_not(
    workspace: Workspace, apart: bool
) -> None:
    factories.make_run(workspace, apart=apart)
    app = open_page("data_audit")
    assert "External datasets" in words(app)
    excluded = app.dataframe[-1].value
    assert excluded["File"].tolist() == ["other/glioma/7.png", "other/*misc*/1.png"]
    assert excluded["Reason"].tolist() == ["copies of hospitals' scans", "in no class folder"]
    folders = next(table.value for table in app.table if "External dataset" in table.value)
    assert folders["Class"].tolist()[:2] == ["unresolved, left out", "No tumour"]
    assert any(each.value.startswith("**other clinic:** 1 folder is not in the class map") for each in app.info)


def test_a_networked_run_does_not_claim_that_hospitals_share_nothing(workspace: Workspace) -> None:
    """Each hospital keeps the list of its scans, so the page has only counts."""
    factories.make_run(workspace, apart=True)
    said = words(open_page("data_audit"))
    assert "Whether hospitals share scans is unknown" in said
    assert "Files left out" not in said
    assert "No slice occurs twice" not in said
    assert "one process per hospital, over a network" in words(open_page("overview"))


def test_most_confident_errors_are_found_on_request(workspace: Workspace, weights: bytes) -> None:
    paths: dict[Label, str] = {label: f"one/{label}.png" for label in LABELS}
    factories.make_run(workspace, model=weights, splits={"AIIMS Delhi": paths})
    assert "The dataset is not on this machine" in words(open_page("evaluation"))
    for seed, path in enumerate(paths.values()):
        save(workspace.dataset / path, texture(seed, 80))
    app = open_page("evaluation")
    assert "only the hospital itself could see this" in words(app)
    app.button[0].click().run()
    assert not app.exception
    # weights that never saw an image give every scan one class, so three of the four are wrong
    assert "3 test scans were misclassified:" in words(app)
    assert len(app.get("image")) == 3
    (mistakes,) = data._mistakes_by_model().values()
    surest = [mistake.prediction.confidence for mistake in mistakes]
    assert surest == sorted(surest, reverse=True)
    app.main.selectbox[0].set_value("NIMHANS Bengaluru").run()
    assert "No test scan was misclassified." in words(app)


def test_local_models_predict_beside_the_global_one(workspace: Workspace, weights: bytes) -> None:
    run = factories.make_run(workspace, model=weights, local=weights)
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    assert not app.exception
    assert "##### 1 of 1 local model predicts the same class" in words(app)
    asked = app.table[-1].value
    assert asked["Model"].tolist() == ["Federated", "AIIMS Delhi alone"]
    assert asked["Confidence"].nunique() == 1  # the same weights
    for name in artifacts.local_files(1):
        (run / name).unlink()
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    assert "only the global model is shown" in words(app)


def test_the_hospital_of_a_scan_is_asked_for_if_the_model_distinguishes_hospitals(workspace: Workspace) -> None:
    state = build_resnet18("local").state_dict()
    own = {key: tensor + 0.5 for key, tensor in local_batchnorm.running_statistics(state).items()}
    file = local_batchnorm.serialise_statistics({"AIIMS Delhi": own})
    factories.make_run(workspace, model=serialise(state))
    factories.make_run(workspace, model=serialise(state), statistics=file, statistics_of="AIIMS Delhi")
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    elsewhere = [metric.value for metric in app.metric]
    (box,) = (box for box in app.selectbox if box.label == "Scanned at")
    assert box.options == ["another hospital", "AIIMS Delhi"]
    box.set_value("AIIMS Delhi").run()
    assert not app.exception
    assert [metric.value for metric in app.metric] != elsewhere
    app.sidebar.selectbox[0].set_value("run-001").run()
    assert "Scanned at" not in [box.label for box in app.selectbox]


def test_results_for_an_upload_are_dropped_with_it(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([("scan.png", SCAN, "image/png")]).run()
    assert {key[0] for key in app.session_state[predictions.RESULTS_KEY]} == {"prediction", "heat", "local"}
    app.file_uploader[0].set_value([]).run()
    assert app.session_state[predictions.RESULTS_KEY] == {}


def test_a_run_chosen_on_the_runs_page_applies_to_all_pages(workspace: Workspace) -> None:
    factories.make_run(workspace)
    factories.make_run(workspace)
    app = open_page("runs")
    assert [(button.label, button.disabled) for button in app.button] == [
        ("run-002 is shown", True),
        ("Show run-001", False),
    ]
    app.button[1].click().run()
    assert app.sidebar.selectbox[0].value == "run-001"


def test_training_page_counts_absences_time_and_traffic(workspace: Workspace) -> None:
    factories.make_run(workspace)
    table = open_page("training").table[0].value.set_index("Hospital")
    assert table["Rounds trained"].tolist() == ["6", "6", "5"]
    assert table["Refused or absent"].tolist() == ["0", "0", "1"]
    assert table["Sent"].tolist() == ["270.0\N{NO-BREAK SPACE}MB"] * 2 + ["225.0\N{NO-BREAK SPACE}MB"]
    assert table["Training time per round"].tolist() == ["12 s"] * 3


def test_training_page_says_how_long_the_traffic_takes_on_a_line(workspace: Workspace) -> None:
    # six rounds of 90 MB to and 45 MB from a hospital are 6480 megabits
    factories.make_run(workspace)
    app = open_page("training")
    assert {metric.label: metric.value for metric in app.metric}["Time for the traffic"] == "5 min"
    app.select_slider[0].set_value(5).run()
    assert {metric.label: metric.value for metric in app.metric}["Time for the traffic"] == "22 min"


def test_refused_updates_are_named(workspace: Workspace) -> None:
    factories.make_run(workspace)
    assert "**Round 3, Tata Memorial Mumbai:** layer1.0.conv1.weight is not finite" in words(open_page("training"))


def test_upload_is_predicted_and_a_broken_one_explained(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([("a*b*<i>.png", SCAN, "image/png"), ("no.png", b"<html>", "image/png")]).run()
    assert not app.exception
    assert [metric.label for metric in app.metric] == ["Predicted class", "Calibrated confidence"]
    assert [error.value[:12] for error in app.error] == ["Not an image"]
    assert [text.value for text in app.text] == ["a*b*<i>.png", "no.png"]
    assert "Research use only, not a diagnosis" in words(app)
    assert "Do not rely on this prediction" not in words(app)
    assert [expander.label for expander in app.expander] == ["All 4 image checks passed"]
    assert "Warmer regions contributed more to" in words(app)
    app.slider[0].set_value(80).run()
    assert not app.exception


def test_files_of_a_series_are_one_scan_and_what_is_left_out_of_uploads_is_said(
    workspace: Workspace, weights: bytes
) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    series = [dicom(SeriesInstanceUID="1.2.3", InstanceNumber=number) for number in range(1, 4)]
    files = [(f"IM{number}", content, "") for number, content in enumerate(series)]
    packed = archive({"CD/IM000001": dicom(), "more*.zip": archive({"a.png": SCAN}), "__MACOSX/a.png": SCAN})
    app.file_uploader[0].set_value([*files, ("CD.zip", packed, ""), (".DS_Store", b"x", "")]).run()
    assert not app.exception
    assert app.dataframe[0].value["File"].tolist() == ["IM0 (first of 3 slices)", "CD.zip: CD/IM000001"]
    said = words(app)
    assert r"3 files left out: 2 hidden or system files" in said
    assert r"1 archive inside the archive, not opened \(more\*.zip\)" in said
    app.file_uploader[0].set_value([(".DS_Store", b"x", "")]).run()
    assert "1 file left out: 1 hidden or system file" in words(app)
    assert "No scans yet" in words(app)


def test_many_uploads_have_one_table_and_one_scan_is_shown_at_a_time(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([(f"{k}.png", SCAN, "image/png") for k in range(6)]).run()
    assert not app.exception
    assert app.dataframe[0].value["File"].tolist() == [f"{k}.png" for k in range(6)]
    assert len(app.metric) == 2
    app.main.selectbox[0].set_value(5).run()
    assert [text.value for text in app.text] == ["5.png"]


def volume(*blank: int) -> tuple[str, bytes, str]:
    """Returns a file with five slices, some of which, from 1, are black."""
    slices = [np.zeros((80, 80)) if number in blank else texture(number, 80) for number in range(1, 6)]
    content = nibabel.Nifti1Image(np.stack(slices, axis=2).astype(np.int16), np.eye(4)).to_bytes()
    return "head.nii", content, "application/octet-stream"


def test_a_slice_of_a_volume_is_chosen_and_the_table_follows(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([volume(4), ("scan.png", SCAN, "image/png")]).run()
    assert not app.exception
    assert "Slice 3 of 5 used" in words(app)
    assert app.dataframe[0].value["Slice"].tolist() == ["3 of 5", "–"]
    (slider,) = (slider for slider in app.slider if slider.label == "Slice")
    slider.set_value(5).run()
    assert "Slice 5 of 5 used" in words(app)
    assert app.dataframe[0].value["Slice"].tolist() == ["5 of 5", "–"]
    slider.set_value(4).run()  # blank: its reason is shown, and the slider stays
    assert not app.exception
    assert len(app.error) == 1
    assert app.dataframe[0].value["Slice"].tolist() == ["4 of 5", "–"]
    assert app.dataframe[0].value["Class"][0] == "–"
    assert [slider.value for slider in app.slider if slider.label == "Slice"] == [4]


def test_a_volume_whose_middle_is_blank_opens_at_a_slice_with_content(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([volume(1, 2, 3)]).run()
    assert not app.exception
    assert app.slider[0].value == 4
    assert not app.error


def test_the_slices_of_a_volume_are_predicted_once(
    workspace: Workspace, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    predict_slices = predictor.predict_slices

    def counted(classifier: object, scan: object, numbers: list[int]) -> object:
        asked.extend(numbers)
        return predict_slices(classifier, scan, numbers)

    monkeypatch.setattr(predictor, "predict_slices", counted)
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([volume(1)]).run()
    assert asked == [1, 2, 3, 4, 5]
    assert "##### Along 5 slices" in words(app)
    along = app.dataframe[0].value
    assert along["Slice"].tolist() == ["1", "2", "3", "4", "5"]
    assert [cell == "–" for cell in along["Glioma"]] == [True, False, False, False, False]
    app.slider[0].set_value(2).run()
    assert asked == [1, 2, 3, 4, 5]
    assert "##### Along 5 slices" in words(app)


def test_uploads_and_the_chosen_slice_last_while_another_page_is_shown(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([volume(), ("a*b.png", SCAN, "image/png")]).run()
    next(slider for slider in app.slider if slider.label == "Slice").set_value(5).run()
    switch(app, "overview")
    switch(app, "prediction")
    assert not app.exception
    assert app.file_uploader[0].value == []
    assert app.dataframe[0].value["File"].tolist() == ["head.nii", "a*b.png"]
    assert app.dataframe[0].value["Slice"].tolist() == ["5 of 5", "–"]
    assert [button.label for button in app.button] == ["Remove head.nii", "Remove a\\*b.png", "Remove all 2"]
    app.button[0].click().run()
    assert [text.value for text in app.text] == ["a*b.png"]
    app.file_uploader[0].set_value([("new.png", SCAN, "image/png")]).run()
    assert app.dataframe[0].value["File"].tolist() == ["a*b.png", "new.png"]
    app.file_uploader[0].set_value([]).run()
    assert [text.value for text in app.text] == ["a*b.png"]
    app.button[0].click().run()
    assert "No scans yet" in words(app)
    assert app.session_state[session_uploads.KEPT_KEY] == {}
    assert app.session_state[predictions.RESULTS_KEY] == {}
    assert predictions.OPENED_KEY not in app.session_state


def test_the_uploads_of_a_session_are_bounded(
    workspace: Workspace, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_uploads, "MAX_SESSION", len(SCAN))
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.file_uploader[0].set_value([(name, SCAN, "image/png") for name in ("a.png", "b.png")]).run()
    assert [text.value for text in app.text] == ["a.png"]
    assert "b.png left out: the uploads of one session may take 0 MB together. Remove some first." in words(app)


def test_several_notes_share_one_box(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    colourful = np.dstack([texture(seed, 160) for seed in range(3)] + [np.full((160, 160), 200, np.uint8)])
    app = open_page("prediction")
    app.file_uploader[0].set_value([("scan.png", png(colourful), "image/png")]).run()
    notes = [info.value for info in app.info if "not a diagnosis" not in info.value]
    assert notes == ["- Transparency placed on black.\n- Colour dropped."]


def test_an_answer_names_its_run_and_is_that_run_s(workspace: Workspace, weights: bytes) -> None:
    """A deleted run's name may be used again: its answers must not be taken for those of the new one."""
    factories.make_run(workspace, model=serialise(build_resnet18(seed=5).state_dict()))
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    before = [metric.value for metric in app.metric]
    assert "Predicted by the global model of run\\-001." in words(app)
    shutil.rmtree(workspace.artifacts / "run-001")
    factories.make_run(workspace, model=weights)
    data._list_runs.clear()
    app.run()
    assert not app.exception
    assert "Predicted by the global model of run\\-001." in words(app)
    assert [metric.value for metric in app.metric] != before


def test_a_sample_is_predicted_without_an_upload(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights)
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    assert not app.exception
    assert app.metric[0].label == "Predicted class"


def test_out_of_distribution_scan_is_flagged(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, distance_threshold=1e-9)
    app = open_page("prediction")
    app.file_uploader[0].set_value([("scan.png", SCAN, "image/png")]).run()
    assert "**Do not rely on this prediction.** Out of distribution" in words(app)


def test_invalid_weights_are_refused_with_a_reason(workspace: Workspace) -> None:
    factories.make_run(workspace, model=b"no weights")
    app = open_page("prediction")
    app.file_uploader[0].set_value([("scan.png", SCAN, "image/png")]).run()
    assert not app.exception
    assert app.error[0].value.startswith("The model of this run cannot be used: ")
    assert not app.metric


def test_opening_the_dashboard_does_not_import_torch(workspace: Workspace) -> None:
    factories.make_run(workspace)
    script = (
        "import sys\n"
        "from app_pages import open_page\n"
        "assert open_page('prediction').title[0].value == 'Prediction'\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent)


def test_a_deleted_run_is_said_and_no_other_run_takes_its_place(workspace: Workspace) -> None:
    factories.make_run(workspace, synthetic=False)
    folder = factories.make_run(workspace)
    app = open_page("evaluation")
    assert app.sidebar.selectbox[0].value == "run-002"
    shutil.rmtree(folder)
    for name in ("evaluation", "prediction", "overview"):  # on the page, and on others
        app = switch(app, name)
        assert not app.exception
        assert [warning.value for warning in app.warning] == [
            "run\\-002 is no longer there; choose another in the sidebar."
        ]
        assert not app.metric
        assert app.sidebar.selectbox[0].value is None
    assert "run-001" in app.sidebar.selectbox[0].options[0]
    app.sidebar.selectbox[0].select("run-001").run()
    assert [title.value for title in app.title] == ["Overview"]
    assert app.sidebar.selectbox[0].value == "run-001"


def test_on_the_page_runs_another_run_is_chosen_after_one_was_deleted(workspace: Workspace) -> None:
    factories.make_run(workspace)
    folder = factories.make_run(workspace)
    app = open_page("runs")
    shutil.rmtree(folder)
    app.run()
    assert not app.exception
    app.button(key="show-run-001").click().run()
    assert app.sidebar.selectbox[0].value == "run-001"
    assert [title.value for title in switch(app, "evaluation").title] == ["Evaluation"]


def test_the_only_run_deleted_is_said_too(workspace: Workspace) -> None:
    folder = factories.make_run(workspace)
    app = open_page("evaluation")
    shutil.rmtree(folder)
    app.run()
    assert "run\\-001 is no longer there." in [warning.value for warning in app.warning]
    assert [title.value for title in app.title] == ["No run to show yet"]


def test_a_run_that_became_unreadable_is_said(workspace: Workspace) -> None:
    factories.make_run(workspace)
    folder = factories.make_run(workspace)
    app = open_page("evaluation")
    (folder / "run.json").unlink()
    data._list_runs.clear()  # pages look again after five seconds
    app.run()
    said = "run\\-002 can no longer be read; the page Runs says why; choose another in the sidebar."
    assert said in [warning.value for warning in app.warning]


@pytest.mark.parametrize("copy", ["run-007", "run-001 copy"])
def test_a_copied_run_has_its_own_name_on_the_page_runs(workspace: Workspace, copy: str) -> None:
    folder = factories.make_run(workspace)
    shutil.copytree(folder, folder.with_name(copy))
    app = open_page("runs")
    assert {button.key for button in app.button} >= {"show-run-001", f"show-{copy}"}
    assert formatting.sentence(f"{copy} says it is run-001: a copy") in [warning.value for warning in app.warning]
    assert sum("confusion" in str(chart.proto.id) for chart in app.get("plotly_chart")) == 2
    app.button(key=f"show-{copy}").click().run() if not app.button(key=f"show-{copy}").disabled else None
    assert not app.exception
    shown = switch(app, "overview")
    assert shown.sidebar.selectbox[0].value == copy
    assert formatting.sentence(f"{copy} says it is run-001: a copy") in [caption.value for caption in shown.caption]
