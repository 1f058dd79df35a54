"""From a file to a prediction that says when not to trust it."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import factories
import numpy as np
import pytest
import torch
from PIL import Image
from scans import save, texture

from medisync.data.preprocessing import standardise
from medisync.errors import ConfigError, DataError, ImageError, ModelError
from medisync.inference import explanation, predictor
from medisync.inference.predictor import Classifier, Reading
from medisync.model import local_batchnorm
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.schemas import LABELS
from medisync.workspace import artifacts


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A real ResNet18 that never saw an image."""
    workspace = artifacts.locate(tmp_path_factory.mktemp("workspace"))
    run = factories.make_run(workspace, model=serialise(build_resnet18(seed=3).state_dict()))
    return predictor.open_run(run)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def with_calibration(classifier: Classifier, **figures: float) -> Classifier:
    calibration = classifier.meta.calibration.model_copy(update=figures)
    meta = classifier.meta.model_copy(update={"calibration": calibration})
    return replace(classifier, meta=meta)


def test_probabilities_add_to_one_and_the_label_has_the_largest(classifier: Classifier) -> None:
    prediction = predictor.predict(classifier, png(texture(1, 200)))
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.confidence == max(prediction.probabilities.values()) == prediction.probabilities[prediction.label]


def test_sessions_that_share_a_model_get_their_own_answers(classifier: Classifier) -> None:
    scans = [png(texture(seed, 200)) for seed in range(8)]
    pixels = [standardise(texture(seed, 200), classifier.meta.image_size) for seed in range(8)]
    alone = [predictor.predict(classifier, scan) for scan in scans]
    heat = [explanation.explain(classifier, each, "glioma") for each in pixels]
    with ThreadPoolExecutor(4) as sessions:
        together = list(sessions.map(lambda scan: predictor.predict(classifier, scan), scans))
        heat_together = list(sessions.map(lambda each: explanation.explain(classifier, each, "glioma"), pixels))
    assert together == alone
    assert all(np.array_equal(one, other) for one, other in zip(heat, heat_together, strict=True))


def test_the_temperature_changes_confidence_and_not_the_label(classifier: Classifier) -> None:
    sharp = predictor.predict(with_calibration(classifier, temperature=0.1), png(texture(1, 200)))
    flat = predictor.predict(with_calibration(classifier, temperature=10.0), png(texture(1, 200)))
    assert sharp.label == flat.label
    assert sharp.confidence > flat.confidence > 1 / len(LABELS)


def test_a_scan_beyond_the_threshold_is_unlike_the_training_scans(classifier: Classifier) -> None:
    distance = predictor.predict(classifier, png(texture(1, 200))).distance
    for threshold, unlike in ((distance * 0.99, True), (distance * 1.01, False)):
        adjusted = with_calibration(classifier, distance_threshold=threshold)
        assert predictor.predict(adjusted, png(texture(1, 200))).unlike_training is unlike


def test_a_prediction_from_a_folder_is_that_of_an_upload(classifier: Classifier, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}.png", texture(seed, 150)) for seed in range(70)]  # two batches, all cores
    readings = list(predictor.predict_files(classifier, paths))
    assert [reading.path for reading in readings] == paths
    for seed in (0, 69):
        alone = predictor.predict(classifier, png(texture(seed, 150)))
        together = readings[seed].prediction
        assert together is not None
        assert together.label == alone.label
        assert together.confidence == pytest.approx(alone.confidence, abs=0.02)  # bfloat16 batches round differently


def test_a_file_that_is_no_image_is_a_reading_with_a_reason(classifier: Classifier, tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", texture(1))
    (tmp_path / "bad.png").write_bytes(b"no image")
    readings = list(predictor.predict_files(classifier, [tmp_path / "bad.png", tmp_path / "gone.png", good]))
    assert [reading.prediction is None for reading in readings] == [True, True, False]
    assert "not an image" in readings[0].problem
    assert readings[1].problem == "cannot be read: No such file or directory"


def test_an_upload_that_is_no_image_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ImageError, match="not an image"):
        predictor.predict(classifier, b"<html></html>")


@pytest.mark.parametrize(
    ("pixels", "failed"),
    [
        (texture(1, 200), set()),
        (texture(1, 100), {"size"}),
        (texture(1, 200)[:, :120], {"size", "aspect"}),
        (texture(1, 200) // 8 + 100, {"contrast"}),
        (np.stack([texture(k, 200) for k in range(3)], axis=2), {"colour"}),
    ],
    ids=["good", "small", "narrow", "flat", "colourful"],
)
def test_checks_say_what_to_look_at(classifier: Classifier, pixels: np.ndarray, failed: set[str]) -> None:
    checks = predictor.predict(classifier, png(pixels)).checks
    assert {check.name for check in checks if not check.passed} == failed
    assert len(checks) == 4


def test_the_wrong_model_file_is_refused(tmp_path: Path) -> None:
    workspace = artifacts.locate(tmp_path)
    run = factories.make_run(workspace, model=serialise(build_resnet18().state_dict()))
    torch.save(build_resnet18(seed=9).state_dict(), run / artifacts.MODEL)
    with pytest.raises(ModelError, match=r"global_model.*SHA-256"):
        predictor.open_run(run)


def test_another_feature_distribution_is_refused(tmp_path: Path) -> None:
    run = factories.make_run(artifacts.locate(tmp_path), model=serialise(build_resnet18().state_dict()))
    (run / artifacts.DISTRIBUTION).write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"feature_distribution.*SHA-256"):
        predictor.open_run(run)


def test_scans_of_a_hospital_are_predicted_with_its_own_statistics(tmp_path: Path) -> None:
    state = build_resnet18("local", seed=3).state_dict()
    statistics = {"North": {key: tensor + 0.5 for key, tensor in local_batchnorm.running_statistics(state).items()}}
    run = factories.make_run(
        artifacts.locate(tmp_path),
        model=serialise(state),
        statistics=local_batchnorm.serialise_statistics(statistics),
        statistics_of="North",
    )
    found = [predictor.open_run(run, hospital) for hospital in ("", "North")]
    for each, own in zip(found, (state, {**state, **statistics["North"]}), strict=True):
        assert torch.equal(each.network.state_dict()["bn1.running_var"], own["bn1.running_var"])
    alike, own = (predictor.predict(each, png(texture(1, 200))).probabilities for each in found)
    assert alike != own
    with pytest.raises(ConfigError, match="'South': the model has statistics of North only"):
        predictor.open_run(run, "South")
    (run / artifacts.STATISTICS).write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"hospital_statistics.*SHA-256"):
        predictor.open_run(run, "North")


def test_images_below_folders_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.JPG", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    single = tmp_path / "a/notes.txt"
    assert predictor.find_images([tmp_path]) == [tmp_path / "a/1.JPG", tmp_path / "b/2.png"]
    assert predictor.find_images([single]) == [single]
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        predictor.find_images([tmp_path / "nowhere"])


def test_a_csv_row_has_a_probability_per_class_or_the_reason(classifier: Classifier) -> None:
    prediction = predictor.predict(classifier, png(texture(1, 100)))
    row = predictor.csv_row(Reading(Path("scan.png"), prediction, ""))
    assert row[:2] == ["scan.png", prediction.label]
    assert [float(cell) for cell in row[2:6]] == pytest.approx(list(prediction.probabilities.values()), abs=1e-4)
    assert "size: 100 x 100 pixels" in row[6]
    assert predictor.csv_row(Reading(Path("bad.png"), None, "empty")) == ["bad.png", "", "", "", "", "", "empty"]
    assert len(next(csv.reader([",".join(row[:6])]))) == 6


def test_a_folder_of_class_folders_is_scored(classifier: Classifier, tmp_path: Path) -> None:
    for folder, count in (("glioma", 2), ("No_Tumor", 3), ("chest x-rays", 4)):
        for number in range(count):
            save(tmp_path / folder / f"{number}.png", texture(10 * count + number, 150))
    (tmp_path / "glioma/broken.png").write_bytes(b"no")
    scores = predictor.score_folder(classifier, tmp_path)
    figures = json.loads(json.dumps(scores.figures))
    matrix = np.array(figures["confusion_matrix"])
    assert figures["n"] == 5
    assert matrix.sum(axis=1).tolist() == [2, 0, 0, 3]
    assert figures["accuracy"] == pytest.approx(np.trace(matrix) / 5)
    assert figures["per_class_recall"]["meningioma"] is None
    readings = predictor.predict_files(classifier, predictor.find_images([tmp_path]))
    unlike = [reading.prediction.unlike_training for reading in readings if reading.prediction]
    assert figures["out_of_distribution_share"] == pytest.approx(np.mean(unlike))
    assert [path.name for path, _ in scores.unreadable] == ["broken.png"]


def test_a_folder_without_images_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable image"):
        predictor.score_folder(classifier, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        predictor.score_folder(classifier, tmp_path / "missing")
