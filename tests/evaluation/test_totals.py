"""Totals: additive over hospitals, and reproducible."""

from dataclasses import astuple

import numpy as np
import pytest
from scores import logits_for, totals_of

from medisync.evaluation.totals import add_up


def test_totals_of_two_hospitals_add_to_the_totals_of_both() -> None:
    generator = np.random.default_rng(1)
    labels, logits = generator.integers(0, 4, 60).tolist(), generator.normal(size=(60, 4))
    both = add_up([totals_of(labels[:25], logits[:25]), totals_of(labels[25:], logits[25:])])
    for added, whole in zip(astuple(both), astuple(totals_of(labels, logits)), strict=True):
        assert added == pytest.approx(whole, abs=1e-9)


def test_replicates_are_the_same_for_the_same_generator() -> None:
    one, two = (
        totals_of([0, 1, 2], logits_for([0, 1, 1]), replicates=50, generator=np.random.default_rng(9)) for _ in range(2)
    )
    assert (one.replicates == two.replicates).all()
    assert one.replicates.sum(axis=(1, 2)).tolist() == [3] * 50
