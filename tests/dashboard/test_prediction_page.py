"""The page Prediction with a verdict of each kind, with and without a hospital, and in a run before verdicts."""

from pathlib import Path

import factories
import pytest
from app_pages import open_page
from streamlit.testing.v1 import AppTest

from medisync.dashboard import data
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.reporting import verdicts
from medisync.workspace import artifacts
from medisync.workspace.artifacts import Workspace

ANSWER, DOUBT, NO_ANSWER = (0.0, 0.0), (0.0, 1.1), (1.1, 1.1)
"""Thresholds that give every scan that verdict: the confidences for any answer, and for one without doubt."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(tmp_path))
    return artifacts.locate()


@pytest.fixture(scope="session")
def weights() -> bytes:
    return serialise(build_resnet18().state_dict())


def with_a_sample() -> AppTest:
    app = open_page("prediction")
    app.button_group[0].set_value("Glioma").run()
    assert not app.exception
    return app


def boxes(app: AppTest) -> list[str]:
    """Returns the boxes that tell of a prediction, without the one that every page has."""
    found = [*app.error, *app.warning, *app.info]
    return [box.value for box in found if "not a diagnosis" not in box.value and "Synthetic data" not in box.value]


def test_an_answer_states_its_risk_and_the_prior(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, thresholds=ANSWER)
    app = with_a_sample()
    (box,) = boxes(app)
    assert box.startswith("### Answer\\: ")
    assert "at most 10\N{NO-BREAK SPACE}% of the answers are wrong on scans like the hospitals' validation scans" in box
    assert "hospital of this scan is not known" in box
    assert [metric.label for metric in app.metric] == ["Predicted class", "Calibrated confidence"]
    assert "Prior\\: none; the scan may come from anywhere." in [caption.value for caption in app.caption]


def test_an_answer_with_doubt_says_why(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, thresholds=DOUBT)
    app = with_a_sample()
    (box,) = (each.value for each in app.warning if "doubt" in each.value)
    assert box.startswith("### Answer with doubt\\: ")
    assert "No confidence suffices for an answer without doubt" in box
    assert len(app.metric) == 2


def test_no_answer_shows_no_class_before_somebody_asks(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, local=weights, thresholds=NO_ANSWER)
    app = with_a_sample()
    (box,) = app.error
    assert box.value.startswith("### No answer\n\nNo confidence suffices for an answer")
    assert not app.metric
    (leaned,) = (each for each in app.expander if each.label == "What the network leaned to")
    inside = [each.value for each in leaned.markdown]
    assert any("This is not an answer" in each for each in inside)
    assert "##### 1 of 1 local model leans to the same class" in inside
    assert leaned.table[0].value["Verdict"][0] == "No answer: low confidence"
    assert any("what the network leaned to" in caption.value for caption in app.caption)


def test_a_scan_out_of_distribution_gets_no_answer(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, distance_threshold=1e-9, thresholds=ANSWER)
    (box,) = with_a_sample().error
    assert box.value.startswith("### No answer\n\nOut of distribution\\: this scan is less like the training scans")


def test_the_hospital_of_a_scan_decides_its_prior(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, thresholds=ANSWER)
    app = with_a_sample()
    (origin,) = (box for box in app.selectbox if box.label == "Scanned at")
    assert origin.options == ["another hospital", *factories.HOSPITALS]
    assert origin.help == verdicts.PRIOR_HELP
    origin.set_value("Tata Memorial Mumbai").run()
    assert not app.exception
    captions = [caption.value for caption in app.caption]
    assert any(
        "Prior of Tata Memorial Mumbai, which has no training scans without a tumour" in each for each in captions
    )
    assert "hospital of this scan is not known" not in boxes(app)[0]


def test_several_uploads_and_slices_have_a_column_of_verdicts(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, thresholds=NO_ANSWER)
    app = open_page("prediction")
    sample = data.samples()["Glioma"]
    app.file_uploader[0].set_value([(name, sample, "image/png") for name in ("a.png", "b.png")]).run()
    assert not app.exception
    assert app.dataframe[0].value["Verdict"].tolist() == ["No answer: low confidence"] * 2
    assert app.dataframe[0].value["Class"][0].startswith("leaned to ")


def test_a_run_before_verdicts_is_shown_as_it_was(workspace: Workspace, weights: bytes) -> None:
    factories.make_run(workspace, model=weights, local=weights, distance_threshold=1e-9)
    app = with_a_sample()
    (box,) = boxes(app)
    assert box.startswith("**Do not rely on this prediction.**")
    assert [metric.label for metric in app.metric] == ["Predicted class", "Calibrated confidence"]
    assert "Verdict" not in app.table[-1].value
    assert [expander.label for expander in app.expander] == ["All 4 image checks passed"]
    assert not any("Prior" in caption.value or "leaned" in caption.value for caption in app.caption)
    assert "Scanned at" not in [box.label for box in app.selectbox]
