"""Update validation: every kind of wrong update is refused by name, and the round continues."""

from typing import Any

import pytest
import torch
from fakes import AnswerTo, failing, one_round, refusals, update
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, Reply
from medisync.federation.update_validation import MAX_IMAGES, validate_scores, validate_updates
from medisync.model import adam

WRONG = {
    "missing key": (update(0, state={"v": torch.tensor([1.0])}), "w is missing"),
    "extra key": (update(0, state={"w": torch.tensor([1.0]), "v": torch.tensor([1.0])}), "v is unknown"),
    "shape": (update(0, state={"w": torch.tensor([1.0, 2.0])}), "w has shape [2], expected [1]"),
    "dtype": (update(0, state={"w": torch.tensor([1.0], dtype=torch.float64)}), "float64"),
    "not a number": (update(float("nan")), "w holds values that are not finite"),
    "infinite": (update(float("-inf")), "w holds values that are not finite"),
    "count 0": (update(1.0, 0), "num-examples is 0"),
    "negative count": (update(1.0, -3), "num-examples is -3"),
    "fraction": (update(1.0, 2.5), "num-examples is 2.5"),
    "huge count": (update(1.0, MAX_IMAGES + 1), "num-examples is"),
    "loss": (update(1.0, loss=float("nan")), "its metric loss is nan, expected a finite number"),
    "accuracy": (update(1.0, accuracy=7.0), "its metric accuracy is 7.0, expected a number from 0 to 1"),
    "stale round": (update(1.0, round_number=7), "answers round 7, this is 1"),
    "error": (failing, "its disk is full"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_update_is_refused_by_name_and_the_round_continues(wrong: AnswerTo, said: str) -> None:
    average, result = one_round({2: update(1.0, 2), 3: update(4.0, 6), 4: wrong})
    assert average["w"].item() == 3.25
    assert refusals(result).keys() == {"West"}
    assert said in refusals(result)["West"]


def test_a_second_update_from_one_hospital_is_refused() -> None:
    average, result = one_round({2: update(1.0, 2), 3: update(4.0, 6)}, repeat=2)
    assert average["w"].item() == 3.25
    assert refusals(result) == {
        "North": "a second update in the same round",
        "South": "a second update in the same round",
    }


def test_a_metric_that_nobody_asked_for_is_ignored() -> None:
    """Flower refuses to average metrics whose names differ, which would end the round for all hospitals."""
    average, result = one_round({2: update(1.0, 2), 3: update(4.0, 6, mood=1.0)})
    assert average["w"].item() == 3.25
    assert result.means.keys() == {"loss", "accuracy", "seconds"}


def test_arrays_that_cannot_be_read_are_refused() -> None:
    def garbled(message: Message) -> RecordDict:
        content = update(1.0)(message)
        content[ARRAYS] = ArrayRecord({"w": Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=b"no")})
        return content

    _, result = one_round({2: update(1.0), 3: update(4.0), 4: garbled})
    assert "cannot be read" in refusals(result)["West"]


def test_impossible_moments_are_refused() -> None:
    def state(first: float) -> dict[str, Any]:
        moments = {adam.FIRST + "w": torch.tensor([first]), adam.SECOND + "w": torch.tensor([1.0])}
        return {"w": torch.tensor([1.0]), **moments, adam.STEPS: torch.tensor(1)}

    answers = {node: update(0, state=state(first)) for node, first in ((2, 1.0), (3, 3.0), (4, 1e6))}
    average, result = one_round(answers, start=state(0.0))
    assert average[adam.FIRST + "w"].item() == 2.0
    assert "adam.first.w holds values that no gradients" in refusals(result)["West"]


def test_a_negative_variance_is_refused() -> None:
    def state(variance: float) -> dict[str, torch.Tensor]:
        return {"w": torch.tensor([0.0]), "bn.running_var": torch.tensor([variance])}

    honest = update(0, state=state(1.0))
    _, result = one_round({2: honest, 3: honest, 4: update(0, state=state(-1.0))}, start=state(1.0))
    assert refusals(result) == {"West": "bn.running_var holds a negative variance"}


RECORDS = {
    ARRAYS: ArrayRecord({"w": torch.tensor([1.0])}),
    METRICS: MetricRecord({COUNT: 1, "loss": 0.5, "accuracy": 0.5, "seconds": 1.0}),
    CONFIG: ConfigRecord({ROUND: 1}),
}


@pytest.mark.parametrize(
    "records",
    [
        {},
        {ARRAYS: RECORDS[ARRAYS], CONFIG: RECORDS[CONFIG]},
        {**RECORDS, "more": ConfigRecord()},
        {ARRAYS: RECORDS[CONFIG], METRICS: RECORDS[METRICS], CONFIG: RECORDS[ARRAYS]},
    ],
    ids=["none", "one missing", "one more", "kinds exchanged"],
)
def test_other_records_than_those_of_an_update_are_refused(records: dict[str, Any]) -> None:
    start = ArrayRecord({"w": torch.tensor([0.0])})
    assert len(validate_updates([Reply("North", RecordDict(dict(RECORDS)))], start, 1).accepted) == 1
    validated = validate_updates([Reply("North", RecordDict(records))], start, 1)
    assert validated.accepted == []
    assert "expected the records arrays, metrics and config" in validated.refused[0].reason


def test_updates_are_in_the_order_of_the_hospitals_names() -> None:
    """Whatever the order of the replies: a float sum depends on its order."""
    start = ArrayRecord({"w": torch.tensor([0.0])})
    replies = [Reply(name, RecordDict(dict(RECORDS))) for name in ("West", "North", "South")]
    assert [each.hospital for each in validate_updates(replies, start, 1).accepted] == ["North", "South", "West"]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, "num-examples is None"),
        ({COUNT: 3, "loss": float("nan"), "accuracy": 0.5}, "its loss is nan"),
        ({COUNT: 3, "loss": 0.5, "accuracy": 7.0}, "its accuracy is 7.0, expected a number from 0 to 1"),
        ({COUNT: -1, "loss": 0.5, "accuracy": 0.5}, "num-examples is -1"),
    ],
)
def test_impossible_scores_are_refused_by_name(metrics: dict[str, float], said: str) -> None:
    scores = validate_scores([Reply("North", RecordDict({METRICS: MetricRecord(metrics)}))])
    assert scores.accepted == {}
    (refusal,) = scores.refused
    assert refusal.hospital == "North"
    assert said in refusal.reason


def test_a_hospital_that_fails_to_evaluate_is_refused_with_its_reason() -> None:
    (refusal,) = validate_scores([Reply("North", RecordDict(), "its disk is full")]).refused
    assert refusal.reason == "did not evaluate: its disk is full"
