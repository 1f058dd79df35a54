"""The run that comes with the project: complete, readable, and as good as the documentation says."""

import io
from pathlib import Path

import numpy as np
import pytest
from app_pages import open_page
from PIL import Image

from medisync.inference import predictor
from medisync.schemas import LABELS
from medisync.workspace import artifacts

ROOT = Path(__file__).parent.parent
WORKSPACE = artifacts.locate(ROOT)
RUN = WORKSPACE.artifacts / "run-001"


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


SAMPLES = sorted((ROOT / "medisync" / "dashboard" / "samples").glob("*.png"))


def test_every_file_is_the_one_that_the_run_wrote() -> None:
    artifacts.verify(WORKSPACE, RUN.name)
    for name in artifacts.PUBLISHED:
        assert (WORKSPACE.models / name).read_bytes() == (RUN / name).read_bytes()
    assert (RUN / artifacts.MODEL).stat().st_size < 25_000_000


def test_it_names_no_path_of_the_machine_that_made_it() -> None:
    for file in [*RUN.glob("*.json"), *RUN.glob("*.ipynb"), *RUN.glob("*.md")]:
        text = file.read_text(encoding="utf-8")
        assert not [path for path in ("/tmp/", "/home/", "/root/", "/work/") if path in text], file.name  # noqa: S108


def test_the_documentation_gives_its_figures() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    documentation = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for each in artifacts.read(RUN, artifacts.BASELINES).models:
        for scores in (each.test, *each.hospitals.values()):
            interval = scores.intervals["accuracy"]
            figure = f"{100 * scores.accuracy:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
            assert figure in documentation, f"{each.kind} {each.trained_at}: {figure}"


def test_it_predicts_head_slices_and_flags_noise_and_stripes_as_out_of_distribution() -> None:
    classifier = predictor.open_run(WORKSPACE.models)
    predictions = [predictor.predict(classifier, sample.read_bytes()) for sample in SAMPLES]
    assert len(predictions) == len(LABELS)
    assert sum(prediction.unlike_training for prediction in predictions) <= 1  # phantoms are meant to look like scans
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    stripes = (np.arange(200) // 10 % 2 * 200 * np.ones((200, 1))).astype(np.uint8)
    for pixels in (noise, stripes):
        assert predictor.predict(classifier, png(pixels)).unlike_training


@pytest.mark.parametrize(
    "name", ["overview", "hospitals", "data_audit", "training", "evaluation", "prediction", "runs"]
)
def test_every_page_shows_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDISYNC_WORKSPACE", str(ROOT))
    app = open_page(name)
    assert not app.error
    assert not [warning for warning in app.warning if "Synthetic" in warning.value]
