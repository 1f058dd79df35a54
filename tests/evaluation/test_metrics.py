"""Metrics from numbers small enough to check by hand, and against scikit-learn on larger ones."""

import numpy as np
import pytest
from scores import logits_for, totals_of
from sklearn import metrics as reference

from medisync.evaluation.bootstrap import draw_groups, percentile_interval
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.totals import softmax
from medisync.schemas import LABELS

GLIOMA, MENINGIOMA, PITUITARY = 0, 1, 2


def test_the_roc_curve_of_six_images_by_hand() -> None:
    # by falling odds: glioma, glioma, other, glioma, other, other
    odds = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -2.0])
    logits = np.zeros((6, 4))
    logits[:, GLIOMA] = odds
    curve = compute_metrics(totals_of([0, 0, 1, 0, 1, 1], logits)).per_class["glioma"].roc
    third = pytest.approx(1 / 3, abs=1e-4)
    assert curve[:3] == [(0, 0), (0, third), (0, pytest.approx(2 / 3, abs=1e-4))]
    assert curve[3] == (third, pytest.approx(2 / 3, abs=1e-4))
    assert curve[4] == (third, 1)
    assert curve[-1] == (1, 1)
    assert compute_metrics(totals_of([0, 0], logits[:2])).per_class["glioma"].roc == []


def test_figures_of_five_images_by_hand() -> None:
    # glioma: 2 of 3 found; meningioma: 1 of 2 found; one glioma called meningioma, one meningioma called pituitary
    scores = compute_metrics(totals_of([0, 0, 0, 1, 1], logits_for([0, 0, 1, 1, 2])))
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 4) / 2)  # 2TP / (2TP + FP + FN)
    assert scores.confusion_matrix == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    meningioma = scores.per_class["meningioma"]
    assert (meningioma.precision, meningioma.recall, meningioma.support) == (0.5, 0.5, 2)
    assert meningioma.specificity == pytest.approx(2 / 3)


def test_undefined_figures_are_none_and_not_zero() -> None:
    scores = compute_metrics(totals_of([GLIOMA], logits_for([GLIOMA])))
    assert scores.per_class["notumor"].recall is None
    assert scores.per_class["notumor"].precision is None
    empty = compute_metrics(totals_of([], np.zeros((0, 4)), covariances=True))
    assert (empty.n, empty.accuracy, empty.ece, empty.intervals) == (0, None, None, {})


def test_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 4, 300)
    logits = generator.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]
    scores = compute_metrics(totals_of(labels.tolist(), logits))
    predicted = logits.argmax(axis=1)
    assert scores.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    assert scores.macro_f1 == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert scores.loss == pytest.approx(reference.log_loss(labels, softmax(logits)))


def test_area_under_the_curve_by_hand() -> None:
    # glioma scores 3 and 1, others 2 and 0: of the four pairs the glioma wins 3-2, 3-0, 1-0
    logits = np.array([[3.0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    assert compute_metrics(totals_of([0, 0, 1, 1], logits)).per_class["glioma"].auc == pytest.approx(3 / 4)
    tied = compute_metrics(totals_of([GLIOMA, MENINGIOMA], np.zeros((2, 4)))).per_class["glioma"]
    assert tied.auc == pytest.approx(1 / 2)


def test_area_under_the_curve_agrees_with_scikit_learn_to_the_width_of_a_cell() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 4, 500)
    logits = generator.normal(size=(500, 4)) + np.eye(4)[labels]
    scores = compute_metrics(totals_of(labels.tolist(), logits))
    probabilities = softmax(logits)
    for k, label in enumerate(LABELS):
        expected = reference.roc_auc_score(labels == k, probabilities[:, k])
        assert scores.per_class[label].auc == pytest.approx(expected, abs=1.5e-2)


def test_brier_score_by_hand() -> None:
    # 75 % for the truth, three times 1/12 for the rest: 1/16 + 3/144
    confident = np.log([[0.75, 1 / 12, 1 / 12, 1 / 12]])
    assert compute_metrics(totals_of([GLIOMA], confident)).brier == pytest.approx(1 / 16 + 3 / 144)


def test_every_figure_of_a_class_has_its_interval() -> None:
    totals = totals_of([0, 0, 1, 1] * 10, logits_for([0, 1, 1, 1] * 10), covariances=True)
    glioma = compute_metrics(totals).per_class["glioma"]
    assert glioma.intervals.keys() == {"precision", "recall", "f1", "specificity", "auc"}
    assert glioma.recall is not None
    assert glioma.intervals["recall"].low < glioma.recall == 0.5 < glioma.intervals["recall"].high


def test_calibration_error_by_hand() -> None:
    # two images at 75 % confidence, one right: the bin's gap is 0.25
    confident = np.log([[0.75, 0.25 / 3, 0.25 / 3, 0.25 / 3]] * 2)
    assert compute_metrics(totals_of([GLIOMA, MENINGIOMA], confident)).ece == pytest.approx(0.25)


def test_interval_is_wider_when_images_come_in_groups() -> None:
    # 40 images, half right: 40 groups of one, or 4 groups of ten that are right or wrong together
    labels, predicted = [0] * 40, [0] * 20 + [1] * 20
    widths = []
    for groups in (list(range(40)), [image // 10 for image in range(40)]):
        totals = totals_of(labels, logits_for(predicted), groups, covariances=True)
        interval = compute_metrics(totals).intervals["accuracy"]
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.1)  # the binomial's
    assert widths[1] > 2.5 * widths[0]


def test_intervals_agree_with_a_bootstrap_over_groups() -> None:
    generator = np.random.default_rng(4)
    labels, groups = generator.integers(0, 4, 300), np.sort(generator.integers(0, 100, 300))
    predicted = np.where(generator.random(300) < 0.8, labels, generator.integers(0, 4, 300))
    correct = labels == predicted
    member = np.unique(groups, return_inverse=True)[1]
    draws = draw_groups(groups, 4000, generator)
    low, high = percentile_interval(draws @ np.bincount(member, weights=correct) / (draws @ np.bincount(member)))
    found = compute_metrics(totals_of(labels.tolist(), logits_for(predicted), groups.tolist(), covariances=True))
    assert (found.intervals["accuracy"].low, found.intervals["accuracy"].high) == pytest.approx((low, high), abs=0.01)


def test_labels_are_in_the_order_of_the_outputs() -> None:
    assert LABELS == ("glioma", "meningioma", "pituitary", "notumor")
