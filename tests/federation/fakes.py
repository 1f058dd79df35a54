"""Hospitals that reply what a test tells them to, and images that a network learns in seconds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import recipes
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from medisync.config import Configuration, TrainingConfig
from medisync.errors import DataError
from medisync.federation import simulation
from medisync.federation.aggregation import AggregationResult, aggregate
from medisync.federation.broadcast import Broadcast
from medisync.federation.messages import ARRAYS, CONFIG, COUNT, METRICS, ROUND, Participants, ask
from medisync.federation.plan import FederationPlan, RoundPlan
from medisync.federation.server_app import Outcome
from medisync.federation.strategy import build_strategy, configure_train
from medisync.federation.update_store import UpdateStore
from medisync.training.dataset import HospitalData, ImageSet

NAMES = {2: "North", 3: "South", 4: "West"}
FIGURES = {"loss": 0.5, "accuracy": 0.5, "seconds": 1.0}
SETTINGS = recipes.training(image_size=32, batch_size=4, learning_rate=1e-3, device="cpu")

Average = dict[str, torch.Tensor]
AnswerTo = Callable[[Message], RecordDict]


def update(
    value: float,
    count: object = 1,
    *,
    state: Mapping[str, Any] | None = None,
    round_number: int | None = None,
    **figures: float,
) -> AnswerTo:
    """Returns a hospital that answers every training message with these weights, this count and these figures."""

    def answer(message: Message) -> RecordDict:
        asked = message.content.config_records[CONFIG][ROUND]
        arrays = {"w": torch.tensor([value])} if state is None else state
        return RecordDict(
            {
                ARRAYS: ArrayRecord(dict(arrays)),
                METRICS: MetricRecord({COUNT: count, **FIGURES, **figures}),  # type: ignore[dict-item]
                CONFIG: ConfigRecord({ROUND: asked if round_number is None else round_number}),
            }
        )

    return answer


def plan_of(moment_rounds: int, learning_rate: float = 0.1, weight_decay: float = 0.0) -> RoundPlan:
    """Returns the plan of a round after which second moments of so many rounds are handed on."""
    training = recipes.training(
        learning_rate=learning_rate, learning_rate_schedule="constant", weight_decay=weight_decay
    )
    planned = FederationPlan(training, recipes.federation(transport="compact")).plan_round(1, Participants(NAMES))
    return replace(planned, moment_rounds=moment_rounds)


def failing(message: Message) -> RecordDict:
    raise DataError("its disk is full")


def one_round(
    answers: Mapping[int, AnswerTo],
    start: Mapping[str, Any] | None = None,
    min_hospitals: int = 2,
    repeat: int = 1,
    store: UpdateStore | None = None,
    **options: Any,
) -> tuple[Average, AggregationResult]:
    """Returns the new global state and the result of one training exchange.

    `repeat` is the number of times that every update is delivered; updates wait in `store`, if given.
    """
    client, server = ClientApp(), ServerApp()
    names = {node: NAMES[node] for node in answers}
    config = recipes.federation(min_hospitals=min_hospitals, **options)
    plan = FederationPlan(SETTINGS, config).plan_round(1, Participants(names))
    state = ArrayRecord({"w": torch.tensor([0.0])} if start is None else dict(start))
    results = []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(answers[context.node_id](message), reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = build_strategy(config, plan)
        exchange = ask(grid, configure_train(strategy, plan, Broadcast(state)), names, 60, store)
        repeated = replace(exchange, replies=exchange.replies * repeat)
        results.append(aggregate(strategy, plan, state, repeated))

    simulation.run_apps(server, client, {node: {} for node in answers})
    return results[0].arrays.to_torch_state_dict(), results[0]


def refusals(result: AggregationResult) -> dict[str, str]:
    """Returns the reasons by hospital."""
    return {refusal.hospital: refusal.reason for refusal in result.refused}


def images(count: int, classes: int, seed: int, side: int = 32) -> ImageSet:
    """Returns squares that are brighter the higher their class: something that a network can learn."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = (60 * labels[:, None, None] + generator.integers(0, 40, (count, side, side))).astype(np.uint8)
    return ImageSet(pixels, labels.astype(np.int64), np.arange(count, dtype=np.int64))


def hospital(seed: int, classes: int = 4, side: int = 32) -> HospitalData:
    """Returns 16 training, 8 validation and 8 test images."""
    train, val, test = (images(count, classes, seed + k, side) for k, count in enumerate((16, 8, 8)))
    return {"train": train, "val": val, "test": test}


def simulate(
    hospitals: Mapping[str, HospitalData],
    rounds: int = 2,
    training: TrainingConfig = SETTINGS,
    observer: Any = None,
    **federation: Any,
) -> Outcome:
    sections = {"training": training, "federation": recipes.federation(rounds=rounds, **federation)}
    return simulation.simulate(hospitals, Configuration.model_construct(**sections), observer=observer)
