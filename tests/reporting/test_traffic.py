"""Traffic and the time that it takes, by hand."""

import pytest

from medisync.reporting.charts import traffic
from medisync.schemas import HistoryEntry, HospitalScores

NOTHING = {"train_loss": None, "train_accuracy": None, "val_loss": None}


def entry(number: int, accuracy: float | None, **megabytes: tuple[int, int]) -> HistoryEntry:
    scores = {
        name: HospitalScores(**NOTHING, val_accuracy=None, bytes_down=down * 10**6, bytes_up=up * 10**6)
        for name, (down, up) in megabytes.items()
    }
    return HistoryEntry(
        **NOTHING, val_accuracy=accuracy, epoch=number, learning_rate=1e-3, seconds=10, hospitals=scores
    )


HISTORY = [entry(1, None, North=(100, 50), South=(100, 20)), entry(2, 0.8, North=(20, 30), South=(100, 0))]


def test_a_round_waits_for_the_hospital_with_most_traffic() -> None:
    # 150 MB, then 100 MB: 2000 megabits
    assert traffic.line_seconds(HISTORY, 20) == pytest.approx(100)
    assert traffic.line_seconds(HISTORY, 1000) == pytest.approx(2)


def test_the_chart_has_the_validated_rounds_at_the_traffic_up_to_them() -> None:
    chart = traffic.accuracy_by_traffic(HISTORY)
    assert chart is not None
    (line,) = chart.figure.data
    assert (list(line.x), list(line.y)) == ([0.25], [80.0])
    assert "250.0\N{NO-BREAK SPACE}MB" in chart.title


@pytest.mark.parametrize("history", [[], [entry(1, 0.5, North=(0, 0))], [entry(1, 0.5)]])
def test_nothing_is_drawn_of_runs_that_counted_no_bytes(history: list[HistoryEntry]) -> None:
    assert traffic.accuracy_by_traffic(history) is None
