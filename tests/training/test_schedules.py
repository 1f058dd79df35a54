"""Learning rate and image size over the rounds, by hand."""

import pytest

from medisync.config import TrainingConfig
from medisync.training.schedules import scheduled_rate, scheduled_size


def test_learning_rate_falls_along_a_cosine_to_a_twentieth() -> None:
    rates = [scheduled_rate(1e-3, "cosine", number, 5) for number in range(1, 6)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[2] == pytest.approx(1e-3 * (0.05 + 0.95 / 2))
    assert rates[4] == pytest.approx(1e-3 / 20)
    assert scheduled_rate(1e-3, "cosine", 1, 1) == 1e-3


def test_learning_rate_falls_in_a_straight_line_to_nothing_after_the_last_round() -> None:
    rates = [scheduled_rate(1e-3, "linear", number, 4) for number in range(1, 5)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_images_grow_with_the_rounds_in_the_progressive_schedule() -> None:
    progressive = TrainingConfig(image_size=224, image_size_schedule="progressive")
    sizes = [scheduled_size(progressive, number, 10) for number in range(1, 11)]
    assert sizes == [64] * 2 + [128] * 6 + [224] * 2
    assert scheduled_size(TrainingConfig(image_size=224, image_size_schedule="constant"), 1, 10) == 224
    assert [scheduled_size(progressive, number, 3) for number in (1, 2, 3)] == [128, 128, 224]
    assert scheduled_size(progressive, 1, 1) == 224  # the last round has full-size images, even if it is the first
    small = TrainingConfig(image_size=32, image_size_schedule="progressive")
    assert {scheduled_size(small, number, 10) for number in range(1, 11)} == {32}
