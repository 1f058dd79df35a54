"""Evaluations that a curious server cannot take apart. The attack that once recovered every group is the positive control."""

from typing import Any

import numpy as np
import pytest
import recipes
from fakes import images
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from medisync.evaluation.bootstrap import draw_groups
from medisync.federation import client_app, simulation
from medisync.federation.messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    MOMENTS,
    ROUND,
    TOTALS,
    Detail,
    EvaluateInstructions,
    arrays_from_state,
)
from medisync.model.resnet import build_resnet18
from medisync.schemas import LABELS, SPLITS

SETTINGS = recipes.training(image_size=32, device="cpu")
SEED = 5
"""Known to the server, as every seed of a run is."""


def recover_groups(replicates: np.ndarray, groups: int) -> np.ndarray:
    """The attack: draws the same bootstrap samples again and solves for what each group added to every cell [G, cells]."""
    draws = draw_groups(np.arange(groups), len(replicates), np.random.default_rng(SEED))
    found, *_ = np.linalg.lstsq(draws.astype(float), replicates.reshape(len(replicates), -1), rcond=None)
    return found


def test_replicates_with_known_draws_give_every_group_back() -> None:
    generator = np.random.default_rng(1)
    cells = np.zeros((87, 16))
    np.add.at(cells, (generator.integers(0, 87, 300), generator.integers(0, 16, 300)), 1)
    replicates = draw_groups(np.arange(87), 1000, np.random.default_rng(SEED)) @ cells
    assert (np.rint(recover_groups(replicates, 87)) == cells).all()


def answer(detail: Detail, message_type: str = "evaluate", count: int = 24) -> RecordDict:
    """Returns what a hospital with `count` images answers to the server."""
    data = dict.fromkeys(SPLITS, images(count, 4, 0, 32))
    app = client_app.build(lambda context, size: ("North", data))
    content = RecordDict(
        {
            ARRAYS: arrays_from_state(build_resnet18(SETTINGS.normalisation).state_dict()),
            CONFIG: ConfigRecord({**EvaluateInstructions(SETTINGS, "test", detail=detail).to_record(), ROUND: 1}),
        }
    )
    answers: list[Message] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        answers.extend(grid.send_and_receive([Message(content, 2, message_type)]))

    simulation.run_apps(server, app, {2: {}})
    assert not answers[0].has_error(), answers[0].error
    return answers[0].content


def test_nothing_in_an_answer_has_as_many_rows_as_it_takes_to_solve_for_groups() -> None:
    """The attack needs at least one equation per group and cell; covariances are the sums over groups that they seem."""
    totals: dict[str, Array] = dict(answer("intervals").array_records[TOTALS])
    shapes = {name: array.numpy().shape for name, array in totals.items()}
    assert set(shapes) == {
        *("confusion", "loss", "brier", "reliability", "loss_by_temperature", "ood_scores", "ranks", "nonconformity"),
        *("selective", "confusion_covariance", "rank_covariance", "outcome_covariance"),
    }
    assert shapes["confusion_covariance"] == (16, 16)
    assert shapes["selective"] == (3, 50)
    assert shapes["outcome_covariance"] == (3, 3)
    assert shapes["rank_covariance"] == (len(LABELS), 96, 96)
    assert all(
        name in ("loss_by_temperature", "ood_scores", "nonconformity") or max(shape) <= 96
        for name, shape in shapes.items()
    )


def test_asking_again_gives_the_same_answer() -> None:
    """Nothing is drawn at random, so asking again, or with another seed, tells the server nothing more."""
    one, other = (dict(answer("intervals").array_records[TOTALS]) for _ in range(2))
    assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in one)


def test_the_evaluation_in_a_round_returns_means_alone() -> None:
    content = answer("scores")
    assert set(content) == {METRICS, CONFIG}
    loss = content.metric_records[METRICS]["loss"]
    assert loss == round(float(loss), 4)  # type: ignore[arg-type]


def test_features_of_a_class_with_one_or_two_images_do_not_leave() -> None:
    """Labels go round the classes: five images are two, one, one and one."""
    few: Any = answer("totals", "query", count=5).array_records[MOMENTS]
    enough: Any = answer("totals", "query", count=12).array_records[MOMENTS]
    assert isinstance(few, ArrayRecord)
    assert few["counts"].numpy().tolist() == [0, 0, 0, 0]
    assert not few["sums"].numpy().any()
    assert not few["products"].numpy().any()
    assert enough["counts"].numpy().tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("count", [1, 2])
def test_a_hospital_with_an_image_or_two_still_answers(count: int) -> None:
    totals = answer("intervals", count=count).array_records[TOTALS]
    assert totals["confusion"].numpy().sum() == count
