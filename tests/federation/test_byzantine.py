"""One hostile hospital among honest ones: its updates are refused, clipped or withstood, and named."""

import dataclasses

import byzantine
import numpy as np
import pytest
import recipes
import torch
from byzantine import ATTACKS, HOSTILE
from fakes import hospital, one_round, refusals, update
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medisync.errors import FederationError
from medisync.evaluation.totals import tally
from medisync.federation import simulation, update_clipping
from medisync.federation.federated_evaluation import FederatedEvaluation
from medisync.federation.messages import TOTALS, EvaluateInstructions, to_arrays
from medisync.federation.server_app import Outcome
from medisync.model import adam
from medisync.model.weights import find_problem

FIVE = {"East": 0, HOSTILE: 10, "North": 20, "South": 30, "West": 40}
TINY = {**byzantine.SETTINGS, "IMAGE_SIZE": 32, "ROUNDS": 1, "PATIENCE": 1, "BATCH_SIZE": 4, "DEVICE": "cpu"}


def floats(*values: float) -> dict[str, np.ndarray]:
    return {"w": np.array(values, np.float32)}


def test_an_outsized_update_is_clipped_and_named() -> None:
    # changes of length 1, 1 and 300: the median is 1, so the third becomes a change of 1
    average, result = one_round({2: update(1.0), 3: update(1.0), 4: update(300.0)})
    assert average["w"].item() == pytest.approx(1.0)
    (remark,) = result.remarks
    assert remark.hospital == "West"
    assert remark.reason == "the change of its weights is 300 times as long as the median one; it was cut to that"


def test_an_update_of_usual_length_is_left_alone() -> None:
    average, result = one_round({2: update(1.0), 3: update(1.0), 4: update(4.9)})
    assert average["w"].item() == pytest.approx(6.9 / 3)
    assert result.remarks == []


def test_of_two_updates_none_is_clipped() -> None:
    average, result = one_round({2: update(1.0), 3: update(301.0)})
    assert average["w"].item() == 151.0
    assert result.remarks == []


def test_running_statistics_are_clipped_by_their_own_median() -> None:
    def state(weight: float, mean: float) -> dict[str, torch.Tensor]:
        return {"w": torch.tensor([weight]), "bn.running_mean": torch.tensor([mean])}

    honest = update(0, state=state(1.0, 2.0))
    answers = {2: honest, 3: honest, 4: update(0, state=state(1.0, 2000.0))}
    average, result = one_round(answers, start=state(0.0, 0.0))
    assert average["bn.running_mean"].item() == pytest.approx(2.0)
    assert "change of its statistics is 1e+03 times" in result.remarks[0].reason


def test_moments_of_adam_are_clipped_together_by_their_own_medians() -> None:
    def state(mean: float, square: float) -> dict[str, torch.Tensor]:
        memory = {adam.FIRST + "w": mean, adam.SECOND + "w": square}
        return {key: torch.tensor([value]) for key, value in {"w": 1.0, **memory}.items()} | {
            adam.STEPS: torch.tensor(1)
        }

    # 100 times the mean, 10000 times the mean of squares: what gradients a hundred times as long would have left
    honest, start = update(0, state=state(1.0, 1.0)), state(0.0, 0.0)
    average, result = one_round({2: honest, 3: honest, 4: update(0, state=state(100.0, 10000.0))}, start=start)
    assert average[adam.SECOND + "w"].item() == pytest.approx(1.0)  # all three 1: cut to a ten-thousandth
    assert average[adam.FIRST + "w"].item() == pytest.approx(2.01 / 3)  # the third 0.01: both are cut alike
    assert [remark.reason for remark in result.remarks] == [
        "the change of its mean gradients is 100 times as long as the median one; it was cut to that",
        "the change of its mean squared gradients is 1e+04 times as long as the median one; it was cut to that",
    ]


def test_an_update_that_changes_nothing_is_named() -> None:
    honest, idle = floats(1, 0.1), floats(0, 0)
    reviews = update_clipping.review_updates(floats(0, 0), [honest, honest, idle])
    assert reviews[2].remarks == ("it left the weights as they were",)


def outcome(attack: str, **parameters: object) -> Outcome:
    return byzantine.simulate({name: hospital(seed) for name, seed in FIVE.items()}, attack, {**TINY, **parameters})


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({}, "its totals cannot be read (KeyError: 'confusion')"),
        ({"loss": np.array([np.nan])}, "its loss cannot be a sum over images"),
        ({"confusion": np.full((4, 4), -1)}, "its confusion cannot be a sum over images"),
        ({"confusion": np.zeros((5, 5), np.int64)}, "its confusion is int64 [5, 5], expected [4, 4]"),
        ({"brier": np.array(["low"])}, "its brier is <U3 [1], expected [1]"),
    ],
)
def test_impossible_totals_are_left_out_by_name(
    lie: dict[str, np.ndarray], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = hospital(0)["val"]
    honest = tally(images.labels, np.eye(4)[images.labels], images.groups)
    told = {**{field.name: getattr(honest, field.name) for field in dataclasses.fields(honest)}, **lie} if lie else {}
    found = {}

    def reply(message: Message, context: Context) -> Message:
        answer = to_arrays(honest) if context.node_id == 2 else ArrayRecord({k: Array(v) for k, v in told.items()})
        return Message(RecordDict({TOTALS: answer}), reply_to=message)

    client, server = ClientApp(), ServerApp()
    client.evaluate()(reply)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        evaluation = FederatedEvaluation(grid, {2: "North", 3: "Liar"}, ArrayRecord(), 1, 10)
        found.update(evaluation.collect_totals(EvaluateInstructions(recipes.training(), detail="totals")))

    simulation.run_apps(server, client, {2: {}, 3: {}})
    assert found.keys() == {"North"}
    assert np.array_equal(found["North"].confusion, honest.confusion)
    assert f"Liar: {said}" in caplog.text


SAID = {
    "not a number": "holds values that are not finite",
    "times 100": "times as long as the median one; it was cut to that",
    "stale round": "answers round 0, this is 1",
}


@pytest.mark.parametrize(("attack", "said"), SAID.items())
def test_the_record_names_the_hostile_hospital_and_no_other(attack: str, said: str) -> None:
    ended = outcome(attack)
    assert said in byzantine.said_of(ended)
    assert all(byzantine.said_of(ended, name) == "nothing" for name in FIVE if name != HOSTILE)
    assert all(torch.isfinite(tensor).all() for tensor in ended.state.values())


def test_refused_updates_leave_the_same_weights_whatever_they_hold() -> None:
    for one, other in byzantine.ALIKE.items():
        left, right = (outcome(attack).state for attack in (one, other))
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_every_attack_is_tried() -> None:
    """Here, or in `benchmarks/byzantine.py`: flipped labels look like an honest update, and a flipped sign shows once
    honest updates agree, after a few rounds.
    """
    assert {*SAID, "none", "zeros", "labels flipped", "sign flipped"} == ATTACKS.keys()


@pytest.mark.parametrize("strategy", ["fedmedian", "trimmed-mean", "krum"])
def test_a_robust_aggregate_stays_among_the_honest_updates(strategy: str) -> None:
    answers = {2: update(1.0), 3: update(1.1), 4: update(-100.0)}
    average, result = one_round(answers, strategy=strategy)
    assert 1.0 <= average["w"].item() <= 1.1
    assert [remark.hospital for remark in result.remarks][:1] == ["West"]
    assert "cut" not in result.remarks[0].reason  # a robust strategy sees the whole update


NUMBERS = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64])
VALUES = arrays.arrays(np.float64, arrays.array_shapes(min_dims=0, max_dims=3, max_side=3))
TENSORS = st.builds(lambda values, dtype: torch.from_numpy(np.asarray(values)).to(dtype), VALUES, NUMBERS)
STATES = st.dictionaries(
    st.sampled_from(["w", "v", "bn.running_var", "", "w.num_batches_tracked"]), TENSORS, max_size=3
)


@settings(max_examples=60)
@given(STATES)
def test_any_state_is_refused_by_name_or_enters_a_finite_average(state: dict[str, torch.Tensor]) -> None:
    average, result = one_round({2: update(1.0), 3: update(2.0), 4: update(0, state=state)})
    assert torch.isfinite(average["w"]).all()
    assert average["w"].dtype == torch.float32
    fits = find_problem(state, {"w": torch.tensor([0.0])}) == ""
    assert ("West" in refusals(result)) is not fits


@settings(max_examples=60)
@given(st.floats(), st.one_of(st.integers(), st.floats(), st.booleans(), st.binary(max_size=4), st.text(max_size=4)))
def test_any_weight_with_any_count_is_refused_or_averaged(value: float, count: object) -> None:
    try:
        average, result = one_round({2: update(1.0), 3: update(2.0), 4: update(value, count)})
    except FederationError as error:
        raise AssertionError("one bad update failed the round") from error
    assert torch.isfinite(average["w"]).all()
    assert len(result.accepted) + len(result.refused) == 3
