"""The server's side: rounds, the choice of the best one, calibration on validation, one reading of the test split."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from medisync.config import FederationConfig, TrainingConfig
from medisync.errors import FederationError
from medisync.evaluation.bootstrap import REPLICATES
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import add_up
from medisync.federation import federated_evaluation
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.federated_evaluation import Assembly
from medisync.federation.history import hospital_scores, is_better, with_images
from medisync.federation.messages import (
    EvaluateOrder,
    Participants,
    TrainOrder,
    arrays_from_state,
    ask,
    digest,
    weights_only,
)
from medisync.federation.strategy import (
    build_strategy,
    optimiser_state,
    restore_optimiser,
    set_hospitals,
    set_learning_rate,
)
from medisync.federation.update_validation import Screened
from medisync.model import adam
from medisync.model.resnet import build_resnet18
from medisync.model.weights import State, round_weights
from medisync.schemas import Calibration, HistoryEntry, Metrics
from medisync.training.schedules import scheduled_rate, scheduled_size
from medisync.training.seeds import derive_seed

log = logging.getLogger(__name__)

OnRound = Callable[[Checkpoint], None]
"""Called after each round that is validated, before the next."""


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with: the best round's weights and how they do."""

    state: dict[str, Any]
    """Rounded as the model's file rounds them, before anything was measured."""
    statistics: dict[str, State]
    """Of BatchNorm, by hospital, where each has its own; empty otherwise."""
    distribution: FeatureDistribution
    history: list[HistoryEntry]
    best_round: int
    calibration: Calibration
    test: Metrics
    """All hospitals together."""
    hospitals: dict[str, Metrics]
    """The same per hospital."""

    def state_at(self, hospital: str) -> dict[str, Any]:
        """The weights that scans of this hospital are predicted with, whether it took part or not."""
        return {**self.state, **self.statistics.get(hospital, {})}


FindParticipants = Callable[[], Participants]
"""Who takes part now; asked before every round."""

ROUND_ATTEMPTS = 3
"""How often a round is asked for before too few updates end the federation."""


def federate(
    grid: Grid,
    find_participants: FindParticipants,
    train_config: TrainingConfig,
    federation: FederationConfig,
    *,
    on_round: OnRound = lambda state: None,
    resumed: Checkpoint | None = None,
) -> Outcome:
    """A whole federation from the server's side, which has no dataset and sees updates, counts and totals only.

    With `resumed` it goes on after that checkpoint's last round. Raises FederationError where a round cannot be completed.
    """
    strategy = build_strategy(federation, find_participants().hospitals)
    end = run_rounds(
        grid, find_participants, strategy, resumed or _begin(train_config), train_config, federation, on_round
    )
    best = arrays_from_state(round_weights(weights_only(end.best).to_torch_state_dict()))
    assembly = Assembly(grid, find_participants().hospitals, best, end.best_round, federation.round_deadline)
    fitted = federated_evaluation.calibrate(assembly, train_config)
    test = EvaluateOrder(train_config, "test", fitted.calibration.temperature, REPLICATES)
    totals = assembly.collect_totals(test, fitted.distribution)
    return Outcome(
        state={**best.to_torch_state_dict(), **fitted.elsewhere},
        statistics=fitted.statistics,
        distribution=fitted.distribution,
        history=end.history,
        best_round=end.best_round,
        calibration=fitted.calibration,
        test=compute_metrics(add_up(totals.values()), fitted.calibration),
        hospitals={name: compute_metrics(part, fitted.calibration) for name, part in totals.items()},
    )


def _begin(config: TrainingConfig) -> Checkpoint:
    weights = build_resnet18(config.normalisation, seed=config.seed).state_dict()
    start = arrays_from_state({**weights, **(adam.initial_moments(weights) if config.adam_moments == "shared" else {})})
    return Checkpoint(arrays=start, best=start)


def run_rounds(
    grid: Grid,
    find_participants: FindParticipants,
    strategy: Screened,
    state: Checkpoint,
    train_config: TrainingConfig,
    federation: FederationConfig,
    on_round: OnRound,
) -> Checkpoint:
    """Rounds from `state` until the last, or until `patience` of them brought no better validation.

    A round that lacks updates because hospitals were missing is asked for again: they may be back.
    """
    failures = 0
    restore_optimiser(strategy, state.optimiser)
    while not _is_over(state, train_config, federation):
        number = state.rounds_done + 1
        random.seed(derive_seed(federation.seed, "participants", number))  # Flower draws them with it
        set_learning_rate(strategy, _server_rate(federation, number))
        order = _order(train_config, federation.rounds, number)
        validates = _is_validated(federation, number)
        participants = find_participants()
        set_hospitals(strategy, participants.hospitals)
        try:
            arrays, entry = run_round(
                grid,
                participants,
                strategy,
                state.arrays,
                number,
                order,
                federation.round_deadline,
                validates=validates,
            )
        except FederationError as error:
            failures += 1
            if failures == ROUND_ATTEMPTS or not strategy.missing:
                raise
            log.warning("%s; the round is asked for again", error)
            continue
        failures = 0
        _log_round(entry, federation.rounds, logging.INFO if validates else logging.DEBUG)
        state = _advance(state, arrays, entry, optimiser_state(strategy))
        if validates:
            on_round(state)
    return state


def _is_validated(federation: FederationConfig, number: int) -> bool:
    return number % federation.validate_every == 0 or number == federation.rounds


def _is_over(state: Checkpoint, config: TrainingConfig, federation: FederationConfig) -> bool:
    if state.rounds_done == federation.rounds:
        return True
    if state.rounds_done - state.best_round < federation.patience:
        return False
    if not _is_validated(federation, state.rounds_done):
        return False
    if scheduled_size(config, state.rounds_done, federation.rounds) < config.image_size:
        return False
    log.info("stopped early: %d rounds without a better validation accuracy", federation.patience)
    return True


def _advance(state: Checkpoint, arrays: ArrayRecord, entry: HistoryEntry, optimiser: dict[str, Any]) -> Checkpoint:
    history = [*state.history, entry]
    if state.best_round and not is_better(entry, history[state.best_round - 1]):
        return Checkpoint(arrays, state.best, state.best_round, history, optimiser)
    return Checkpoint(arrays, arrays, len(history), history, optimiser)


def _order(config: TrainingConfig, rounds: int, number: int) -> TrainOrder:
    rate = scheduled_rate(config.learning_rate, config.learning_rate_schedule, number, rounds)
    size = scheduled_size(config, number, rounds)
    return TrainOrder(config, rate, size)


def _server_rate(config: FederationConfig, number: int) -> float:
    return scheduled_rate(config.server_learning_rate, config.server_learning_rate_schedule, number, config.rounds)


def run_round(
    grid: Grid,
    participants: Participants,
    strategy: Screened,
    arrays: ArrayRecord,
    number: int,
    order: TrainOrder,
    deadline: float,
    *,
    validates: bool = True,
) -> tuple[ArrayRecord, HistoryEntry]:
    """One round of FederatedAveraging, Algorithm 1 in McMahan et al. 2017, https://arxiv.org/abs/1602.05629."""
    started = time.monotonic()
    members: Any = participants  # Flower's strategies ask the grid for nothing but its nodes
    orders = strategy.configure_train(number, arrays, order.to_record(), members)
    training = ask(grid, orders, participants.hospitals, deadline, strategy.update_store)
    strategy.missing = (*participants.absent, *training.silent)
    average, train_means = strategy.aggregate_train(number, training.replies)
    weights = weights_only(average)
    question = EvaluateOrder(order.training, image_size=order.image_size).to_record()
    members = Participants(
        {node: name for node, name in participants.hospitals.items() if name not in training.unheard}
    )
    questions = strategy.configure_evaluate(number, weights, question, members) if validates else ()
    scoring = ask(grid, questions, participants.hospitals, deadline)
    answers, unusable = strategy.screen_answers(scoring.replies)
    scoring = replace(scoring, replies=answers)
    val_means = strategy.aggregate_evaluate(number, with_images(answers)) if validates else None
    entry = HistoryEntry(
        epoch=number,
        learning_rate=order.learning_rate,
        image_size=order.image_size,
        seconds=time.monotonic() - started,
        weights_sha256=digest(weights),
        train_loss=_figure(train_means, "loss"),
        train_accuracy=_figure(train_means, "accuracy"),
        val_loss=_figure(val_means, "loss"),
        val_accuracy=_figure(val_means, "accuracy"),
        hospitals=hospital_scores(strategy, training, scoring),
        refused=[*strategy.missing, *strategy.refused, *unusable, *scoring.silent],
        remarks=strategy.remarks,
    )
    return average, entry


def _figure(means: Any, name: str) -> float | None:
    return None if means is None else float(means[name])


def _log_round(entry: HistoryEntry, rounds: int, level: int) -> None:
    for refusal in entry.refused:
        log.warning("round %d: %s was refused: %s", entry.epoch, refusal.hospital, refusal.reason)
    for remark in entry.remarks:
        log.warning("round %d: %s: %s", entry.epoch, remark.hospital, remark.reason)
    sites = ", ".join(f"{name} {_percent(scores.val_accuracy)}" for name, scores in entry.hospitals.items())
    log.log(
        level,
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
