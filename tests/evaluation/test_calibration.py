"""Calibration from scores whose correct result is known."""

import numpy as np
import pytest

from medisync.evaluation import calibration
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import Totals, softmax, tally
from medisync.schemas import Calibration


def totals_of(labels: np.ndarray, logits: np.ndarray) -> Totals:
    return tally(labels.astype(np.int64), logits, np.arange(len(labels)))


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    generator = np.random.default_rng(3)
    honest = generator.normal(size=(4000, 4)) * 1.5
    labels = np.array([generator.choice(4, p=row) for row in softmax(honest)])
    totals = totals_of(labels, honest * 3)
    assert calibration.fit_temperature(totals) == pytest.approx(3, rel=0.1)


def test_the_ood_threshold_leaves_one_validation_image_in_twenty_beyond() -> None:
    scores = np.linspace(0.5, 1.5, 100)
    totals = tally(np.zeros(100, np.int64), np.zeros((100, 4)), np.arange(100), ood_scores=scores)
    threshold = calibration.fit_ood_threshold(totals)
    assert (scores > threshold).sum() == pytest.approx(5, abs=1)
    beyond = compute_metrics(totals, calibration.summarise(totals, totals, 1.0)).unlike_training
    assert beyond == pytest.approx(0.05, abs=0.01)


def test_prediction_sets_of_ten_images_by_hand() -> None:
    # nine of ten have the truth on top (nonconformity 0), one gives it 0.3 (nonconformity 0.7): with n = 10 the set has
    # to reach the ceil(11 * 0.9) = 10th score
    logits = np.log([[0.6, 0.3, 0.05, 0.05]] * 10)
    labels = np.array([0] * 9 + [1])
    threshold = calibration.fit_conformal_threshold(totals_of(labels, logits))
    assert threshold == pytest.approx(0.7, abs=1.1e-2)  # the width of a cell
    assert calibration.prediction_set(np.array([0.6, 0.3, 0.05, 0.05]), threshold) == ["glioma", "meningioma"]
    assert calibration.prediction_set(np.array([0.02, 0.08, 0.1, 0.8]), threshold) == ["notumor"]


def test_with_too_few_images_every_class_is_in_the_set() -> None:
    threshold = calibration.fit_conformal_threshold(totals_of(np.zeros(3), np.eye(4)[[0, 0, 0]] * 9))
    assert calibration.prediction_set(np.array([0.97, 0.01, 0.01, 0.01]), threshold) == [
        "glioma",
        "meningioma",
        "pituitary",
        "notumor",
    ]


def test_nine_in_ten_sets_of_new_images_hold_the_true_class() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(size=(8000, 4)) * 1.2
    labels = np.array([generator.choice(4, p=row) for row in softmax(logits)])
    threshold = calibration.fit_conformal_threshold(totals_of(labels[:4000], logits[:4000]))
    fitted = Calibration(
        temperature=1, distance_threshold=1, conformal_threshold=threshold, ece_before=None, ece_after=None
    )
    metrics = compute_metrics(totals_of(labels[4000:], logits[4000:]), fitted)
    sets = [calibration.prediction_set(row, threshold) for row in softmax(logits[4000:])]
    assert metrics.coverage == pytest.approx(0.9, abs=0.02)
    assert metrics.set_size == pytest.approx(np.mean([len(each) for each in sets]), abs=0.01)
