"""From the bytes of a file to a prediction with the reasons to distrust it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import factories
import nibabel
import numpy as np
import pytest
import torch
from bad_inputs import encoded
from scans import texture

from medisync.errors import ConfigError, ImageError, ModelError
from medisync.imaging.decoding import Scan, decode, open_scan
from medisync.imaging.preprocessing import standardise
from medisync.inference import explanation, predictor
from medisync.inference.predictor import Classifier
from medisync.model import local_batchnorm
from medisync.model.resnet import build_resnet18
from medisync.model.weights import serialise
from medisync.schemas import LABELS, Prediction
from medisync.workspace import artifacts


def with_calibration(classifier: Classifier, **figures: float) -> Classifier:
    calibration = classifier.meta.calibration.model_copy(update=figures)
    meta = classifier.meta.model_copy(update={"calibration": calibration})
    return replace(classifier, meta=meta)


def test_probabilities_add_to_one_and_the_label_has_the_largest(untrained: Classifier) -> None:
    prediction = predictor.predict(untrained, encoded(texture(1, 200)))
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.confidence == max(prediction.probabilities.values()) == prediction.probabilities[prediction.label]


def test_sessions_that_share_a_model_get_their_own_answers(untrained: Classifier) -> None:
    scans = [encoded(texture(seed, 200)) for seed in range(8)]
    pixels = [standardise(texture(seed, 200), untrained.meta.image_size) for seed in range(8)]
    alone = [predictor.predict(untrained, scan) for scan in scans]
    heat = [explanation.explain(untrained, each, "glioma") for each in pixels]
    with ThreadPoolExecutor(4) as sessions:
        together = list(sessions.map(lambda scan: predictor.predict(untrained, scan), scans))
        heat_together = list(sessions.map(lambda each: explanation.explain(untrained, each, "glioma"), pixels))
    assert together == alone
    assert all(np.array_equal(one, other) for one, other in zip(heat, heat_together, strict=True))


def test_an_upload_is_standardised_once(untrained: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(predictor, "standardise", lambda image, size: sizes.append(size) or standardise(image, size))
    decoded = decode(encoded(texture(1, 100)))
    pixels, prediction = predictor.standardise_and_predict(untrained, decoded)
    assert sizes == [untrained.meta.image_size]
    assert np.array_equal(pixels, standardise(decoded.pixels, untrained.meta.image_size))
    assert [check.name for check in prediction.checks if not check.passed] == ["size"]
    bare = predictor.predict_standardised(untrained, pixels)
    assert bare.checks == []
    assert bare.probabilities == prediction.probabilities


def test_the_temperature_changes_confidence_and_not_the_label(untrained: Classifier) -> None:
    sharp = predictor.predict(with_calibration(untrained, temperature=0.1), encoded(texture(1, 200)))
    flat = predictor.predict(with_calibration(untrained, temperature=10.0), encoded(texture(1, 200)))
    assert sharp.label == flat.label
    assert sharp.confidence > flat.confidence > 1 / len(LABELS)


def test_a_scan_beyond_the_threshold_is_out_of_distribution(untrained: Classifier) -> None:
    score = predictor.predict(untrained, encoded(texture(1, 200))).distance
    for threshold, flagged in ((score * 0.99, True), (score * 1.01, False)):
        adjusted = with_calibration(untrained, distance_threshold=threshold)
        assert predictor.predict(adjusted, encoded(texture(1, 200))).unlike_training is flagged


def test_an_upload_that_is_not_an_image_is_refused(untrained: Classifier) -> None:
    with pytest.raises(ImageError, match="not an image"):
        predictor.predict(untrained, b"<html></html>")


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
def test_checks_name_what_to_look_at(untrained: Classifier, pixels: np.ndarray, failed: set[str]) -> None:
    checks = predictor.predict(untrained, encoded(pixels)).checks
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


def test_scans_of_a_hospital_are_predicted_with_its_own_running_statistics(tmp_path: Path) -> None:
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
    alike, own = (predictor.predict(each, encoded(texture(1, 200))).probabilities for each in found)
    assert alike != own
    with pytest.raises(ConfigError, match="'South': the model distinguishes North only; name one of these, or none"):
        predictor.open_run(run, "South")
    (run / artifacts.STATISTICS).write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"hospital_statistics.*SHA-256"):
        predictor.open_run(run, "North")


def volume(count: int, blank: set[int]) -> Scan:
    """Returns a NIfTI volume of textures, some of whose slices, from 1, are black."""
    slices = [np.zeros((80, 80)) if number in blank else texture(number, 80) for number in range(1, count + 1)]
    return open_scan([nibabel.Nifti1Image(np.stack(slices, axis=2).astype(np.int16), np.eye(4)).to_bytes()])


def test_slices_of_a_volume_are_predicted_in_batches_and_a_blank_one_has_a_reason(
    untrained: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = volume(5, blank={1, 4})
    monkeypatch.setattr(predictor, "SLICE_BATCH", 2)
    found = list(predictor.predict_slices(untrained, scan))
    assert [number for number, each in enumerate(found, start=1) if isinstance(each, str)] == [1, 4]
    assert "no content" in str(found[0])
    for number in (2, 3, 5):
        _, alone = predictor.standardise_and_predict(untrained, scan.decode(number))
        together = found[number - 1]
        assert isinstance(together, Prediction)
        assert together.notes == alone.notes
        assert list(together.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=0.02)
    chosen = [each for each in predictor.predict_slices(untrained, scan, [5, 2]) if isinstance(each, Prediction)]
    assert [(each.slice_number, each.slices) for each in chosen] == [(5, 5), (2, 5)]


@pytest.mark.parametrize(
    ("count", "at_most", "numbers"),
    [(1, 4, [1]), (3, 4, [1, 2, 3]), (4, 4, [1, 2, 3, 4]), (10, 4, [1, 4, 7, 10]), (5, 3, [1, 3, 5])],
)
def test_many_slices_are_thinned_out_evenly_with_the_first_and_the_last(
    count: int, at_most: int, numbers: list[int]
) -> None:
    assert predictor.slice_numbers(count, at_most) == numbers
