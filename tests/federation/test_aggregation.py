"""Aggregation of one round's updates, computed by hand."""

from typing import Any

import pytest
import recipes
import torch
from fakes import SETTINGS, failing, one_round, refusals, update
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from medisync.errors import FederationError
from medisync.federation.aggregation import MissingHospitalsError, aggregate
from medisync.federation.messages import Exchange, Participants
from medisync.federation.plan import FederationPlan
from medisync.model import adam
from medisync.schemas import Refusal


def test_the_average_is_weighted_by_count() -> None:
    average, result = one_round({2: update(1.0, 2), 3: update(4.0, 6)})
    assert average["w"].item() == 3.25 == (1 * 2 + 4 * 6) / (2 + 6)
    assert result.refused == []
    assert result.norms == {"North": 1.0, "South": 4.0}
    assert result.drifts == {"North": 2.25, "South": 0.75}


def test_training_figures_are_averaged_by_count_and_kept_by_hospital() -> None:
    _, result = one_round({2: update(1.0, 2, loss=1.0), 3: update(4.0, 6, loss=2.0)})
    assert result.means["loss"] == 1.75 == (1 * 2 + 2 * 6) / (2 + 6)
    assert {name: (figures.images, figures.loss) for name, figures in result.accepted.items()} == {
        "North": (2, 1.0),
        "South": (6, 2.0),
    }


def test_running_statistics_are_averaged_by_count_and_a_counter_stays_whole() -> None:
    # one image with mean 0 and variance 1, three with mean 8 and variance 3: 24 / 4 = 6 and (1 + 3 * 3) / 4 = 2.5
    def state(mean: float, var: float, batches: int) -> dict[str, Any]:
        return {
            "bn.running_mean": torch.tensor([mean]),
            "bn.running_var": torch.tensor([var]),
            "bn.num_batches_tracked": torch.tensor(batches),
        }

    answers = {2: update(0, 1, state=state(0.0, 1.0, 7)), 3: update(0, 3, state=state(8.0, 3.0, 5))}
    average, _ = one_round(answers, start=state(1.0, 1.0, 0))
    assert average["bn.running_mean"].item() == 6.0
    assert average["bn.running_var"].item() == 2.5
    assert average["bn.num_batches_tracked"].dtype == torch.int64
    assert average["bn.num_batches_tracked"].item() == 7


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_moments_are_averaged_by_count_and_take_no_step_of_the_server(name: str) -> None:
    def state(value: float, steps: int) -> dict[str, Any]:
        moments = {adam.FIRST + "w": torch.tensor([value]), adam.SECOND + "w": torch.tensor([value])}
        return {"w": torch.tensor([value]), **moments, adam.STEPS: torch.tensor(steps)}

    answers = {2: update(0, 2, state=state(1.0, 7)), 3: update(0, 6, state=state(4.0, 5))}
    average, result = one_round(answers, start=state(0.0, 0), strategy=name)
    assert result.refused == []
    assert average[adam.FIRST + "w"].item() == average[adam.SECOND + "w"].item() == 3.25
    assert average[adam.STEPS].item() == 7
    assert (average["w"].item() == 3.25) == (name == "fedavg")


def test_below_two_hospitals_the_round_fails_and_says_who_was_refused() -> None:
    with pytest.raises(
        FederationError, match=r"round 1: 1 usable updates, at least 2 are needed \(South: w holds .*NaN"
    ) as error:
        one_round({2: update(1.0), 3: update(float("nan"))})
    assert "the global model is unchanged" in str(error.value)
    assert not isinstance(error.value, MissingHospitalsError)  # repeating the round would not help


def test_counts_of_zero_everywhere_fail_the_round_and_leave_the_model() -> None:
    with pytest.raises(FederationError, match=r"0 usable updates.*North: num-examples is 0.*model is unchanged"):
        one_round({2: update(1.0, 0), 3: update(4.0, 0)})


def test_a_round_that_lacks_silent_hospitals_may_be_repeated() -> None:
    absent = Refusal(hospital="West", reason="was not connected")
    silent = Refusal(hospital="South", reason="did not answer within 1 s")
    plan = FederationPlan(SETTINGS, recipes.federation()).plan_round(1, Participants({2: "North"}, (absent,)))
    with pytest.raises(MissingHospitalsError, match=r"West: was not connected; South: did not answer within 1 s"):
        aggregate(FedAvg(), plan, ArrayRecord(), Exchange([], [silent], {}, {}))


def test_an_error_of_a_hospital_is_not_an_absence() -> None:
    with pytest.raises(FederationError, match="its disk is full") as error:
        one_round({2: update(1.0), 3: failing})
    assert not isinstance(error.value, MissingHospitalsError)


@pytest.mark.parametrize("name", ["fedavg", "fedmedian", "trimmed-mean", "krum"])
def test_aggregation_leaves_the_replies_as_they_came(name: str) -> None:
    """Flower's median and trimmed mean take arrays out of the records that they are given."""
    contents: list[RecordDict] = []

    def keeping(value: float) -> Any:
        def answer(message: Any) -> RecordDict:
            contents.append(update(value)(message))
            return contents[-1]

        return answer

    one_round({2: keeping(1.0), 3: keeping(1.0), 4: keeping(300.0)}, strategy=name)
    assert [content.array_records["arrays"]["w"].numpy().tolist() for content in contents] == [[1.0], [1.0], [300.0]]
    assert all(set(content) == {"arrays", "metrics", "config"} for content in contents)


def test_a_refused_update_is_named_beside_the_accepted_ones() -> None:
    _, result = one_round({2: update(1.0), 3: update(2.0), 4: failing})
    assert result.accepted.keys() == {"North", "South"}
    assert refusals(result) == {"West": "did not finish its work: DataError: its disk is full"}
