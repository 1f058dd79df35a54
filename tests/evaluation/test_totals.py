"""Totals: additive over hospitals, and reproducible."""

from dataclasses import astuple

import numpy as np
import pytest
from scores import logits_for, totals_of

from medisync.evaluation.totals import add_up, for_release


def test_totals_of_two_hospitals_add_to_the_totals_of_both() -> None:
    generator = np.random.default_rng(1)
    labels, logits = generator.integers(0, 4, 60).tolist(), generator.normal(size=(60, 4))
    both = add_up([totals_of(labels[:25], logits[:25]), totals_of(labels[25:], logits[25:])])
    for added, whole in zip(astuple(both), astuple(totals_of(labels, logits)), strict=True):
        assert added == pytest.approx(whole, abs=1e-9)


def test_what_leaves_a_hospital_is_rounded() -> None:
    exact = totals_of([0], np.array([[0.123456, 0.0, 0.0, 0.0]]))
    released = for_release(exact)
    assert exact.loss[0] != released.loss[0] == round(float(exact.loss[0]), 2)
    assert released.reliability[:, 1].sum() in (0.25, 0.3)
    assert (released.confusion == exact.confusion).all()


def test_the_covariance_is_that_of_whole_groups_drawn_with_replacement() -> None:
    # two groups, both glioma: one of two images called glioma, one of one image called meningioma. Two draws of two
    # groups: the first group is drawn w times, w = 0, 1, 2 with probability 1/4, 1/2, 1/4, variance 1/2
    totals = totals_of([0, 0, 0], logits_for([0, 0, 1]), [7, 7, 9], covariances=True)
    correct, wrong = 0, 1
    assert totals.confusion_covariance[correct, correct] == 4 / 2
    assert totals.confusion_covariance[wrong, wrong] == 1 / 2
    assert totals.confusion_covariance[correct, wrong] == -2 / 2


def test_totals_do_not_say_which_scores_belong_to_one_image() -> None:
    """Two images exchange their log odds for pituitary tumour: another pair of predictions, the same totals."""
    one = [[9.4, 1.0, -1.0, -4.0], [9.4, 1.1, -2.4, -4.0]]
    other = [[9.4, 1.0, -2.4, -4.0], [9.4, 1.1, -1.0, -4.0]]
    cells = [totals_of([0, 0], np.array(logits), covariances=True) for logits in (one, other)]
    assert (cells[0].ranks == cells[1].ranks).all()
    assert (cells[0].rank_covariance == cells[1].rank_covariance).all()
    assert (cells[0].confusion_covariance == cells[1].confusion_covariance).all()
