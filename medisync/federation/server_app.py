"""The server's side: rounds, the choice of the best one, calibration on validation, one reading of the test split."""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from pydantic import TypeAdapter

from medisync import evaluation, model, training
from medisync.config import FederationConfig, TrainingConfig
from medisync.federation import assessment
from medisync.federation import strategy as strategies
from medisync.federation.assessment import Assembly
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.messages import (
    ARRAYS,
    COUNT,
    DISTRIBUTION,
    METRICS,
    EvaluateOrder,
    TrainOrder,
    arrays_from_state,
    ask,
    from_arrays,
    to_arrays,
)
from medisync.federation.screening import Screened
from medisync.novelty import FeatureDistribution
from medisync.records import Calibration, HistoryEntry, HospitalScores, Metrics, Refusal

log = logging.getLogger(__name__)

OUTCOME = "outcome"
OnRound = Callable[[Checkpoint], None]
"""Called after each round, before the next."""


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with: the best round's weights and how they do."""

    state: dict[str, Any]
    """Rounded as the model's file rounds them, before anything was measured."""
    distribution: FeatureDistribution
    history: list[HistoryEntry]
    best_round: int
    calibration: Calibration
    test: Metrics
    """All hospitals together."""
    hospitals: dict[str, Metrics]
    """The same per hospital."""


_history_schema = TypeAdapter(list[HistoryEntry])
_metrics_schema = TypeAdapter(dict[str, Metrics])


def build(
    train_config: TrainingConfig,
    federation: FederationConfig,
    hospitals: Mapping[int, str],
    on_round: OnRound = lambda state: None,
    resumed: Checkpoint | None = None,
) -> ServerApp:
    """The Flower app of the server, for hospitals by node. It has no dataset and sees updates, counts and totals only.

    With `resumed` it goes on after that checkpoint's last round.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = strategies.build(federation, hospitals)
        end = run_rounds(grid, strategy, resumed or _begin(train_config), train_config, federation, on_round)
        best = arrays_from_state(model.round_weights(end.best.to_torch_state_dict()))
        assembly = Assembly(grid, hospitals, best, end.best_round)
        calibrated, distribution = assessment.calibrate(assembly, train_config)
        test = EvaluateOrder(train_config, "test", calibrated.temperature, evaluation.REPLICATES)
        totals = assembly.collect_totals(test, distribution)
        context.state[ARRAYS], context.state[DISTRIBUTION] = best, to_arrays(distribution)
        context.state[OUTCOME] = _summary(end, calibrated, totals)

    return app


def _begin(config: TrainingConfig) -> Checkpoint:
    start = arrays_from_state(model.build(config.normalisation, seed=config.seed).state_dict())
    return Checkpoint(arrays=start, best=start)


def run_rounds(
    grid: Grid,
    strategy: Screened,
    state: Checkpoint,
    train_config: TrainingConfig,
    federation: FederationConfig,
    on_round: OnRound,
) -> Checkpoint:
    """Rounds from `state` until the last, or until `patience` of them brought no better validation."""
    strategies.restore_optimiser(strategy, state.optimiser)
    while not _is_over(state, train_config, federation):
        number = state.rounds_done + 1
        random.seed(training.derive_seed(federation.seed, "participants", number))  # Flower draws them with it
        strategies.set_learning_rate(strategy, _server_rate(federation, number))
        order = _order(train_config, federation.rounds, number)
        arrays, entry = run_round(grid, strategy, state.arrays, number, order)
        _log_round(entry, federation.rounds)
        state = _advance(state, arrays, entry, strategies.optimiser_state(strategy))
        on_round(state)
    return state


def _is_over(state: Checkpoint, config: TrainingConfig, federation: FederationConfig) -> bool:
    if state.rounds_done == federation.rounds:
        return True
    if state.rounds_done - state.best_round < federation.patience:
        return False
    if training.scheduled_size(config, state.rounds_done, federation.rounds) < config.image_size:
        return False
    log.info("stopped early: %d rounds without a better validation accuracy", federation.patience)
    return True


def _advance(state: Checkpoint, arrays: ArrayRecord, entry: HistoryEntry, optimiser: dict[str, Any]) -> Checkpoint:
    history = [*state.history, entry]
    if state.best_round and not _is_better(entry, history[state.best_round - 1]):
        return Checkpoint(arrays, state.best, state.best_round, history, optimiser)
    return Checkpoint(arrays, arrays, len(history), history, optimiser)


def _is_better(entry: HistoryEntry, best: HistoryEntry) -> bool:
    """By validation; a first round with larger images always is, because the final model takes the largest."""
    return entry.image_size > best.image_size or _quality(entry) > _quality(best)


def _order(config: TrainingConfig, rounds: int, number: int) -> TrainOrder:
    rate = training.scheduled_rate(config.learning_rate, config.learning_rate_schedule, number, rounds)
    size = training.scheduled_size(config, number, rounds)
    return TrainOrder(config, rate, size, training.renormalisation(config, number, rounds))


def _server_rate(config: FederationConfig, number: int) -> float:
    return training.scheduled_rate(
        config.server_learning_rate, config.server_learning_rate_schedule, number, config.rounds
    )


def run_round(
    grid: Grid, strategy: Screened, arrays: ArrayRecord, number: int, order: TrainOrder
) -> tuple[ArrayRecord, HistoryEntry]:
    """One round of FederatedAveraging, Algorithm 1 in McMahan et al. 2017, https://arxiv.org/abs/1602.05629."""
    started = time.monotonic()
    updates = ask(grid, strategy.configure_train(number, arrays, order.to_record(), grid))
    average, train_means = strategy.aggregate_train(number, updates)
    question = EvaluateOrder(order.training, image_size=order.image_size).to_record()
    answers = ask(grid, strategy.configure_evaluate(number, average, question, grid))
    val_means = strategy.aggregate_evaluate(number, _with_images(answers))
    entry = HistoryEntry(
        epoch=number,
        learning_rate=order.learning_rate,
        image_size=order.image_size,
        seconds=time.monotonic() - started,
        train_loss=_figure(train_means, "loss"),
        train_accuracy=_figure(train_means, "accuracy"),
        val_loss=_figure(val_means, "loss"),
        val_accuracy=_figure(val_means, "accuracy"),
        hospitals=_hospital_scores(strategy, answers),
        refused=[*strategy.refused, *_failed_evaluations(strategy, answers)],
    )
    return average, entry


def _with_images(answers: Sequence[Message]) -> list[Message]:
    return [answer for answer in answers if answer.has_content() and _metric(answer, COUNT) > 0]


def _failed_evaluations(strategy: Screened, answers: Sequence[Message]) -> list[Refusal]:
    return [
        Refusal(hospital=strategy.name(answer), reason=f"did not evaluate: {answer.error.reason}")
        for answer in answers
        if answer.has_error()
    ]


def _metric(reply: Message, name: str) -> float:
    return float(reply.content.metric_records[METRICS][name])  # type: ignore[arg-type]


def _figure(means: Any, name: str) -> float | None:
    return None if means is None else float(means[name])


def _hospital_scores(strategy: Screened, answers: Sequence[Message]) -> dict[str, HospitalScores]:
    trained = {strategy.name(update): update for update in strategy.accepted}
    scored = {strategy.name(answer): answer for answer in _with_images(answers)}
    return {name: _scores(trained.get(name), scored.get(name)) for name in sorted(trained | scored)}


def _scores(update: Message | None, answer: Message | None) -> HospitalScores:
    return HospitalScores(
        train_loss=_metric(update, "loss") if update else None,
        train_accuracy=_metric(update, "accuracy") if update else None,
        val_loss=_metric(answer, "loss") if answer else None,
        val_accuracy=_metric(answer, "accuracy") if answer else None,
        train_images=int(_metric(update, COUNT)) if update else 0,
        val_images=int(_metric(answer, COUNT)) if answer else 0,
        seconds=_metric(update, "seconds") if update else 0.0,
        update_norm=_metric(update, "norm") if update else None,
    )


def _quality(entry: HistoryEntry) -> tuple[float, float]:
    """Validation accuracy, then validation loss; test images have no say."""
    accuracy = -1.0 if entry.val_accuracy is None else entry.val_accuracy
    return accuracy, -(entry.val_loss or 0.0)


def _log_round(entry: HistoryEntry, rounds: int) -> None:
    for refusal in entry.refused:
        log.warning("round %d: %s was refused: %s", entry.epoch, refusal.hospital, refusal.reason)
    sites = ", ".join(f"{name} {_percent(scores.val_accuracy)}" for name, scores in entry.hospitals.items())
    log.info(
        "round %d/%d: training loss %.3f, validation accuracy %s (%s), %.1f s",
        entry.epoch,
        rounds,
        entry.train_loss,
        _percent(entry.val_accuracy),
        sites,
        entry.seconds,
    )


def _percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"


def _summary(end: Checkpoint, calibrated: Calibration, totals: Mapping[str, evaluation.Totals]) -> ConfigRecord:
    """All of the outcome but its arrays, as JSON in what Flower keeps text in."""
    together = evaluation.add(totals.values())
    overall, *each = (evaluation.metrics(part, calibrated) for part in (together, *totals.values()))
    return ConfigRecord(
        {
            "best-round": end.best_round,
            "history": _history_schema.dump_json(end.history).decode(),
            "calibration": calibrated.model_dump_json(),
            "test": overall.model_dump_json(),
            "hospitals": _metrics_schema.dump_json(dict(zip(totals, each, strict=True))).decode(),
        }
    )


def read_outcome(context: Context) -> Outcome:
    """The outcome that a finished server app left in its context."""
    stored = context.state.config_records[OUTCOME]
    return Outcome(
        state=context.state.array_records[ARRAYS].to_torch_state_dict(),
        distribution=from_arrays(FeatureDistribution, context.state.array_records[DISTRIBUTION]),
        history=_history_schema.validate_json(str(stored["history"])),
        best_round=int(stored["best-round"]),  # type: ignore[arg-type]
        calibration=Calibration.model_validate_json(str(stored["calibration"])),
        test=Metrics.model_validate_json(str(stored["test"])),
        hospitals=_metrics_schema.validate_python(json.loads(str(stored["hospitals"]))),
    )
