"""Strategies that the configuration names: aggregates of three updates, computed by hand."""

from typing import Any

import numpy as np
import pytest
import recipes
import torch
from fakes import NAMES, SETTINGS, one_round, update
from flwr.app import Message, RecordDict
from flwr.serverapp.strategy import FedAvgM, FedTrimmedAvg, MultiKrum

from medisync.errors import ConfigError
from medisync.federation.messages import CONFIG, Participants, TrainInstructions
from medisync.federation.plan import FederationPlan
from medisync.federation.strategy import build_strategy, optimiser_state

THREE = {2: update(1.0, 2), 3: update(4.0, 6), 4: update(100.0, 1)}
ROBUST = {"fedmedian": 4.0, "trimmed-mean": 4.0}


def build(number: int = 1, optimiser: Any = None, hospitals: int = 3, **options: Any) -> Any:
    config = recipes.federation(**options)
    participants = Participants({node: str(node) for node in range(hospitals)})
    return build_strategy(config, FederationPlan(SETTINGS, config).plan_round(number, participants), optimiser)


@pytest.mark.parametrize(("name", "expected"), ROBUST.items())
def test_one_extreme_update_does_not_move_a_robust_aggregate(name: str, expected: float) -> None:
    average, _ = one_round(THREE, strategy=name)
    assert average["w"].item() == expected
    assert average["w"].dtype == torch.float32


def test_krum_leaves_out_as_many_as_are_suspected() -> None:
    average, _ = one_round(THREE, strategy="krum")
    assert average["w"].item() == 3.25  # of 1 with two images and 4 with six


def test_server_momentum_and_learning_rate_by_hand() -> None:
    # the mean update is 3.25; the first step of SGD at 0.5 goes half of the way
    average, result = one_round({2: update(1.0, 2), 3: update(4.0, 6)}, strategy="fedavgm", server_learning_rate=0.5)
    assert average["w"].item() == 1.625
    assert {name: array.tolist() for name, array in result.optimiser.items()} == {"0": [-3.25]}


@pytest.mark.parametrize(("name", "correction"), [("fedadam", (1 - 0.99**2) ** 0.5 / (1 - 0.9**2)), ("fedyogi", 1)])
def test_an_adaptive_server_steps_weights_and_averages_statistics(name: str, correction: float) -> None:
    # round 1: m = 0.1 * 3.25, v = 0.01 * 3.25^2, step = 0.1 * m / (sqrt(v) + 0.001), times Adam's bias correction
    def state(value: float) -> dict[str, Any]:
        counter = torch.tensor(int(value))
        return {"w": torch.tensor([value]), "running_mean": torch.tensor([value]), "num_batches_tracked": counter}

    answers = {2: update(0, 2, state=state(1.0)), 3: update(0, 6, state=state(4.0))}
    average, result = one_round(answers, start=state(0.0), strategy=name, server_learning_rate=0.1)
    step = 0.1 * correction * 0.325 / (0.325 + 0.001)
    assert average["w"].item() == pytest.approx(step, rel=1e-3)
    assert average["running_mean"].item() == 3.25
    assert average["num_batches_tracked"].item() == 4
    assert result.optimiser["m_t/w"].item() == pytest.approx(0.325)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_a_new_strategy_takes_up_the_state_of_the_last_rounds_optimiser(name: str) -> None:
    _, result = one_round({2: update(1.0, 2), 3: update(4.0, 6)}, strategy=name)
    again = optimiser_state(build(2, result.optimiser, strategy=name))
    assert again.keys() == result.optimiser.keys() != set()
    assert all(np.array_equal(again[key], array) for key, array in result.optimiser.items())


def test_a_strategy_without_an_optimiser_has_no_state() -> None:
    _, result = one_round({2: update(1.0), 3: update(4.0)})
    assert result.optimiser == {}


def test_the_servers_learning_rate_follows_its_schedule() -> None:
    # linear over 4 rounds: 1, 3/4, 2/4, 1/4 of 0.8
    options = {"strategy": "fedavgm", "server_learning_rate": 0.8, "server_learning_rate_schedule": "linear"}
    rates = [build(number, rounds=4, **options).server_learning_rate for number in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert isinstance(build(strategy="fedavgm"), FedAvgM)


def test_robust_strategies_follow_the_number_of_hospitals() -> None:
    """With 3 and with 5 hospitals, one is cut off at either end, and all but one are selected."""
    for hospitals in (3, 5):
        trimmed, krum = build(strategy="trimmed-mean", hospitals=hospitals), build(strategy="krum", hospitals=hospitals)
        assert isinstance(trimmed, FedTrimmedAvg)
        assert isinstance(krum, MultiKrum)
        assert int(trimmed.beta * hospitals) == 1
        assert krum.num_nodes_to_select == hospitals - 1


def test_fedprox_sends_the_weight_of_its_proximal_term() -> None:
    received = []

    def listening(message: Message) -> RecordDict:
        received.append(TrainInstructions.from_record(message.content.config_records[CONFIG]).proximal_mu)
        return update(1.0)(message)

    one_round({2: listening, 3: listening}, strategy="fedprox", proximal_mu=0.25)
    assert received == [0.25, 0.25]


def test_participation_samples_some_hospitals_and_never_fewer_than_needed() -> None:
    asked: set[int] = set()

    def noting(message: Message) -> RecordDict:
        asked.add(message.metadata.dst_node_id)
        return update(1.0)(message)

    one_round({2: noting, 3: noting, 4: noting}, participation=0.1)
    assert len(asked) == 2


def test_a_trimmed_mean_of_too_few_hospitals_is_refused() -> None:
    with pytest.raises(ConfigError, match="only among 5 or more hospitals, there are 3"):
        build(hospitals=len(NAMES), strategy="trimmed-mean", malicious_hospitals=2)
