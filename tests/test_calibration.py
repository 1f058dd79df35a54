"""Calibration from scores whose right answer is known."""

import numpy as np
import pytest

from medisync import calibration, evaluation


def totals_of(labels: np.ndarray, logits: np.ndarray) -> evaluation.Totals:
    return evaluation.tally(labels.astype(np.int64), logits, np.arange(len(labels)))


def test_temperature_that_made_the_logits_overconfident_is_found() -> None:
    generator = np.random.default_rng(3)
    honest = generator.normal(size=(4000, 4)) * 1.5
    labels = np.array([generator.choice(4, p=row) for row in evaluation.softmax(honest)])
    totals = totals_of(labels, honest * 3)
    assert calibration.fit_temperature(totals) == pytest.approx(3, rel=0.1)


def test_energy_threshold_leaves_one_validation_image_in_twenty_above() -> None:
    logits = np.zeros((100, 4))
    logits[:, 0] = np.linspace(5, 15, 100)
    threshold = calibration.fit_energy_threshold(totals_of(np.zeros(100), logits))
    assert (evaluation.free_energy(logits) > threshold).sum() == pytest.approx(5, abs=1)


def test_prediction_sets_of_ten_images_by_hand() -> None:
    # nine of ten have the truth on top (nonconformity 0), one gives it 0.3 (nonconformity 0.7): with n = 10 the set has
    # to reach the ceil(11 * 0.9) = 10th score
    logits = np.log([[0.6, 0.3, 0.05, 0.05]] * 10)
    labels = np.array([0] * 9 + [1])
    threshold = calibration.fit_conformal_threshold(totals_of(labels, logits))
    assert threshold == pytest.approx(0.7, abs=1.1e-3)
    assert calibration.prediction_set(np.array([0.6, 0.3, 0.05, 0.05]), threshold) == ["glioma", "meningioma"]
    assert calibration.prediction_set(np.array([0.02, 0.08, 0.1, 0.8]), threshold) == ["notumor"]


def test_too_few_images_promise_nothing() -> None:
    threshold = calibration.fit_conformal_threshold(totals_of(np.zeros(3), np.eye(4)[[0, 0, 0]] * 9))
    assert calibration.prediction_set(np.array([0.97, 0.01, 0.01, 0.01]), threshold) == [
        "glioma",
        "meningioma",
        "pituitary",
        "notumor",
    ]


def test_nine_in_ten_unseen_sets_hold_the_truth() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(size=(8000, 4)) * 1.2
    labels = np.array([generator.choice(4, p=row) for row in evaluation.softmax(logits)])
    threshold = calibration.fit_conformal_threshold(totals_of(labels[:4000], logits[:4000]))
    scores = evaluation.metrics(totals_of(labels[4000:], logits[4000:]), threshold)
    sets = [calibration.prediction_set(row, threshold) for row in evaluation.softmax(logits[4000:])]
    assert scores.coverage == pytest.approx(0.9, abs=0.02)
    assert scores.set_size == pytest.approx(np.mean([len(each) for each in sets]), abs=0.01)
