"""Calibration from scores whose correct result is known."""

import numpy as np
import pytest

from medisync.evaluation import calibration
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.selective import selective_metrics
from medisync.evaluation.totals import Totals, softmax, tally
from medisync.schemas import LABELS, Calibration

GLIOMA, MENINGIOMA = 0, 1


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
    beyond = compute_metrics(totals, calibration.summarise(totals, totals, 1.0, threshold)).unlike_training
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


def answered(*scans: tuple[int, float, int], **options: object) -> Totals:
    """Totals of gliomas: for each (class, confidence, number), so many that are answered so."""
    rows = [[confidence if k == answer else (1 - confidence) / 3 for k in range(4)] for answer, confidence, _ in scans]
    logits = np.repeat(np.log(rows), [number for *_, number in scans], axis=0)
    return tally(np.zeros(len(logits), np.int64), logits, np.arange(len(logits)), **options)  # type: ignore[arg-type]


def test_answers_are_given_down_to_the_confidence_where_the_risk_would_be_too_large() -> None:
    # 6 candidates at most, so the level is 1 - 0.1 / 6. From 0.94 on 0 of 200 are wrong: at most 1 - (0.1 / 6)^(1 / 200) =
    # 2.0 %; from 0.54 on 50 of 300, which is more than 10 %
    totals = answered((GLIOMA, 0.95, 200), (GLIOMA, 0.55, 50), (MENINGIOMA, 0.55, 50))
    assert calibration.fit_confidence_threshold(totals, 0.05) == pytest.approx(0.56)
    assert calibration.fit_confidence_threshold(totals, 0.10) == pytest.approx(0.56)
    assert calibration.fit_confidence_threshold(totals, 0.25) == pytest.approx(0.0)


def test_too_few_validation_images_support_no_answer() -> None:
    # 0 of 79 bound the risk to 1 - (0.1 / 6)^(1 / 79) = 5.05 %, 0 of 80 to 4.99 %
    assert calibration.fit_confidence_threshold(answered((GLIOMA, 0.95, 79)), 0.05) == calibration.NO_CONFIDENCE
    assert calibration.fit_confidence_threshold(answered((GLIOMA, 0.95, 80)), 0.05) == 0


def test_scans_that_are_flagged_are_no_answers() -> None:
    scores = np.array([3.0] * 50 + [1.0] * 200)
    totals = answered((MENINGIOMA, 0.95, 50), (GLIOMA, 0.95, 200), ood_scores=scores, ood_threshold=2.0)
    assert calibration.fit_confidence_threshold(totals, 0.05) == 0


def test_the_stated_risk_is_exceeded_in_at_most_one_validation_set_in_ten() -> None:
    # the confidence is true: a scan answered with confidence c is wrong with probability 1 - c, so from t on 1 - (t + 1) / 2
    generator = np.random.default_rng(11)
    exceeded = []
    for _ in range(100):
        confidence = generator.uniform(0.5, 1, 800)
        answers = np.where(generator.uniform(size=800) < confidence, GLIOMA, MENINGIOMA)
        scans = [(int(answer), float(value), 1) for answer, value in zip(answers, confidence, strict=True)]
        threshold = calibration.fit_confidence_threshold(answered(*scans), 0.10)
        exceeded.append((1 - threshold) / 2 > 0.10 + 1e-9)
    assert 0 <= np.mean(exceeded) <= 0.1


def test_a_calibration_says_what_its_answers_are_worth() -> None:
    totals = answered((GLIOMA, 0.95, 200), (MENINGIOMA, 0.95, 2), (GLIOMA, 0.55, 60), (MENINGIOMA, 0.55, 40))
    fitted = calibration.summarise(totals, totals, 1.0, 2.0)
    assert fitted.answer_threshold is not None
    assert 0.54 < fitted.answer_threshold < 0.96
    assert fitted.doubt_threshold == 0  # 42 of 302, with a bound below a fifth
    found = selective_metrics(totals, fitted)
    assert found is not None
    assert found.without_doubt is not None
    assert found.answered is not None
    assert (found.without_doubt.coverage, found.without_doubt.risk) == (
        pytest.approx(202 / 302),
        pytest.approx(2 / 202),
    )
    assert (found.answered.coverage, found.answered.risk) == (1, pytest.approx(42 / 302))


def test_where_nothing_is_answered_nothing_is_wrong() -> None:
    totals = answered((GLIOMA, 0.95, 5))
    found = selective_metrics(totals, calibration.summarise(totals, totals, 1.0, 2.0))
    assert found is not None
    assert found.answered is not None
    assert (found.answered.coverage, found.answered.risk) == (0, None)


def test_mean_probabilities_follow_from_totals() -> None:
    logits = np.random.default_rng(5).normal(size=(3000, 4)) * 2 + [0, 1, -1, 0.5]
    found = calibration.mean_probabilities(totals_of(np.zeros(3000), logits))
    assert found is not None
    assert list(found) == list(LABELS)
    assert list(found.values()) == pytest.approx(softmax(logits).mean(axis=0).tolist(), abs=0.005)
    assert calibration.mean_probabilities(totals_of(np.zeros(0), np.zeros((0, 4)))) is None
