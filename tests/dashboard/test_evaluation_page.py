"""The page Evaluation of a run with verdicts: coverage, risk, and what it changes if the hospital is not known."""

from pathlib import Path

import factories
import pytest
from app_pages import open_page

from medisync.reporting import sentences
from medisync.workspace import artifacts

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(tmp_path))
    return factories.make_run(artifacts.locate(), thresholds=(0.62, 0.84))


def test_coverage_and_risk_stand_beside_each_other_with_and_without_the_hospital() -> None:
    app = open_page("evaluation")
    captions = [caption.value for caption in app.caption]
    (uncertainty,) = (each.value for each in app.table if "Hospital not known" in each.value)
    assert uncertainty["Measure"].tolist()[-1] == "Scans without an answer"
    assert uncertainty["Hospital known"].tolist()[-1] == f"10.0{SPACE}%"
    assert any("an answer without doubt from a confidence of 84" in each for each in captions)
    (scopes,) = (each.value["Test scans of"] for each in app.table if "Brier score" in each.value)
    assert scopes[1] == "All hospitals, hospital not known"
    assert sentences.KNOWING_THE_HOSPITAL in captions
    (outside,) = (each.value for each in app.table if "Hospitals' test scans" in each.value)
    assert "Wrong among all answers" in outside["Measure"].tolist()
    assert sentences.AS_IF_FROM_ANYWHERE in captions


def test_one_hospital_is_always_known() -> None:
    app = open_page("evaluation")
    app.main.selectbox[0].set_value("AIIMS Delhi").run()
    assert not app.exception
    assert not any("Hospital not known" in each.value for each in app.table)
