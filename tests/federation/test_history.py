"""The record of a round, and which of two rounds is the better one."""

import pytest
from fakes import SETTINGS, hospital, simulate

from medisync.federation import history
from medisync.schemas import HistoryEntry, HospitalScores


@pytest.mark.parametrize(("moments", "copies"), [("fresh", 1), ("shared", 3)])
def test_traffic_counts_everything_that_travels(moments: str, copies: int) -> None:
    settings = SETTINGS.model_copy(update={"adam_moments": moments, "normalisation": "group"})
    hospitals = {"North": hospital(0), "South": hospital(10)}
    outcome = simulate(hospitals, 2, settings, validate_every=2, normalisation="group")
    weights = sum(4 * tensor.numel() for tensor in outcome.state.values())
    first, validated = (entry.hospitals["North"] for entry in outcome.history)
    counter = 8 * (moments == "shared")  # of Adam's steps
    assert (first.bytes_down, first.bytes_up) == (copies * weights + counter, copies * weights + counter)
    assert validated.bytes_down == 2 * first.bytes_down  # what is validated is what the next round trains from
    assert validated.bytes_up == first.bytes_up  # the evaluation in a round returns no array


def test_rounds_are_compared_by_the_hospitals_that_validated_both() -> None:
    # round 1: 10 of 20 at North, 2 of 20 at South, together 0.3; round 2 without South: 9 of 20 at North is worse than
    # 10, though 0.45 is more than 0.3; round 3, without South too: 11 of 20 is better
    def scored(number: int, together: float, **right: int) -> HistoryEntry:
        hospitals = {
            name: HospitalScores(train_loss=1, train_accuracy=1, val_loss=1, val_accuracy=count / 20, val_images=20)
            for name, count in right.items()
        }
        figures = {"train_loss": 1, "train_accuracy": 1, "val_loss": 1, "val_accuracy": together, "seconds": 1}
        return HistoryEntry(epoch=number, learning_rate=0.1, hospitals=hospitals, **figures)

    first = scored(1, 0.3, North=10, South=2)
    assert not history.is_better(scored(2, 0.45, North=9), first)
    assert history.is_better(scored(3, 0.55, North=11), first)
