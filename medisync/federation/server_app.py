"""The server's side of a federation: rounds, selection of the best one, calibration, one reading of the test data."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from medisync.evaluation.external import score_histograms
from medisync.evaluation.metrics import compute_metrics
from medisync.evaluation.ood import FeatureDistribution
from medisync.evaluation.totals import Totals, add_up
from medisync.federation.aggregation import AggregationResult, MissingHospitalsError, aggregate
from medisync.federation.broadcast import Broadcast, announce
from medisync.federation.checkpoint import Checkpoint
from medisync.federation.federated_evaluation import FederatedEvaluation, Fitted, calibrate
from medisync.federation.history import hospital_scores, is_better
from medisync.federation.messages import (
    NO_EXCHANGE,
    EvaluateInstructions,
    Participants,
    arrays_from_state,
    ask,
    digest,
    weights_only,
)
from medisync.federation.observer import TrainingObserver
from medisync.federation.plan import FederationPlan, RoundPlan
from medisync.federation.strategy import (
    OptimiserState,
    average_scores,
    build_strategy,
    configure_evaluate,
    configure_train,
)
from medisync.federation.update_store import UpdateStore
from medisync.federation.update_validation import validate_scores
from medisync.model import adam
from medisync.model.resnet import build_resnet18
from medisync.model.weights import State, round_weights
from medisync.schemas import Calibration, HistoryEntry, Metrics, ScoreHistograms

log = logging.getLogger(__name__)

FindParticipants = Callable[[], Participants]
"""Returns who can take part now; called before every round."""

ROUND_ATTEMPTS = 3
"""Number of times a round is tried before missing hospitals end the federation."""


@dataclass(frozen=True)
class Outcome:
    """The result of a federation: the selected round's weights and how well they do."""

    state: dict[str, Any]
    """Weights, rounded as the model's file rounds them before anything was measured."""
    statistics: dict[str, State]
    """BatchNorm's running statistics by hospital, where each has its own; empty otherwise."""
    distribution: FeatureDistribution
    history: list[HistoryEntry]
    best_round: int
    calibration: Calibration
    calibration_elsewhere: Calibration | None
    """For scans whose hospital is not known; None where it is the same."""
    test: Metrics
    """Metrics on the test images of all hospitals together."""
    hospitals: dict[str, Metrics]
    """Metrics on each hospital's test images."""
    test_elsewhere: Metrics | None
    """`test` as if the images' hospitals were not known; None where it is the same."""
    histograms: ScoreHistograms
    """Scores of the test images of all hospitals together, as if their hospitals were not known."""

    def calibration_for(self, *, known: bool) -> Calibration:
        """Returns the calibration for scans of a hospital that the model was trained at, or of any other."""
        return self.calibration if known else self.calibration_elsewhere or self.calibration

    def state_at(self, hospital: str) -> dict[str, Any]:
        """Returns the weights that scans of this hospital are predicted with, whether it took part or not."""
        return {**self.state, **self.statistics.get(hospital, {})}


def federate(
    grid: Grid,
    find_participants: FindParticipants,
    plan: FederationPlan,
    *,
    observer: TrainingObserver | None = None,
    resumed: Checkpoint | None = None,
) -> Outcome:
    """Runs a whole federation from the server's side, which has no dataset and sees only updates, counts and totals.

    With `resumed` it continues after that checkpoint's last round. Raises FederationError if a round cannot be
    completed.
    """
    start = resumed or _first_checkpoint(plan)
    end = run_rounds(grid, find_participants, plan, start, observer or TrainingObserver())
    best = arrays_from_state(round_weights(weights_only(end.best).to_torch_state_dict()))
    hospitals = find_participants().hospitals
    evaluation = FederatedEvaluation(grid, hospitals, best, end.best_round, plan.federation.round_deadline)
    fitted = calibrate(evaluation, plan.training)
    totals = _read_test(evaluation, plan, fitted, fitted.calibration)
    together, elsewhere = add_up(totals.values()), fitted.calibration_elsewhere
    unknown = add_up(_read_test(evaluation, plan, fitted, elsewhere, own_prior=False).values()) if elsewhere else None
    return Outcome(
        state={**best.to_torch_state_dict(), **fitted.mean_statistics},
        statistics=fitted.statistics,
        distribution=fitted.distribution,
        history=end.history,
        best_round=end.best_round,
        calibration=fitted.calibration,
        calibration_elsewhere=elsewhere,
        test=compute_metrics(together, fitted.calibration),
        hospitals={name: compute_metrics(part, fitted.calibration) for name, part in totals.items()},
        test_elsewhere=compute_metrics(unknown, elsewhere) if unknown else None,
        histograms=score_histograms(unknown or together),
    )


def _read_test(
    evaluation: FederatedEvaluation,
    plan: FederationPlan,
    fitted: Fitted,
    calibration: Calibration,
    *,
    own_prior: bool = True,
) -> dict[str, Totals]:
    """Returns each hospital's totals on its test images, under this calibration."""
    instructions = EvaluateInstructions(
        plan.training,
        "test",
        calibration.temperature,
        "intervals",
        ood_threshold=calibration.distance_threshold,
        own_prior=own_prior,
    )
    return evaluation.collect_totals(instructions, fitted.distribution)


def _first_checkpoint(plan: FederationPlan) -> Checkpoint:
    weights = build_resnet18(plan.training.normalisation, seed=plan.training.seed).state_dict()
    moments = adam.initial_moments(weights) if plan.training.adam_moments == "shared" else {}
    start = arrays_from_state({**weights, **moments})
    return Checkpoint(arrays=start, best=start)


def run_rounds(
    grid: Grid, find_participants: FindParticipants, plan: FederationPlan, state: Checkpoint, observer: TrainingObserver
) -> Checkpoint:
    """Runs rounds from `state` until the last, or until `patience` of them brought no better validation.

    A round that lacks updates because hospitals were missing is repeated: they may be back.
    """
    failures, store = 0, UpdateStore()
    while not _is_over(plan, state):
        round_plan = plan.plan_round(state.rounds_done + 1, find_participants())
        strategy = build_strategy(plan.federation, round_plan, state.optimiser)
        try:
            result, model, entry = run_round(grid, strategy, round_plan, state.broadcast, store)
        except MissingHospitalsError as error:
            failures += 1
            if failures == ROUND_ATTEMPTS:
                raise
            log.warning("%s; the round is repeated", error)
            continue
        failures = 0
        state = _advance(state, result.optimiser, model, entry)
        _log_round(entry, plan.federation.rounds, logging.INFO if round_plan.validates else logging.DEBUG)
        if round_plan.validates:
            observer.round_validated(state)
    return state


def _is_over(plan: FederationPlan, state: Checkpoint) -> bool:
    if state.rounds_done == plan.federation.rounds:
        return True
    if plan.may_stop_early(state.rounds_done, state.best_round):
        log.info("stopped early: %d rounds without a better validation accuracy", plan.federation.patience)
        return True
    return False


def _advance(state: Checkpoint, optimiser: OptimiserState, model: Broadcast, entry: HistoryEntry) -> Checkpoint:
    history = [*state.history, entry]
    improved = not state.best_round or is_better(entry, history[state.best_round - 1])
    return Checkpoint(
        arrays=model.arrays,
        best=model.arrays if improved else state.best,
        best_round=len(history) if improved else state.best_round,
        history=history,
        optimiser=dict(optimiser),
        errors=model.errors,
        change=model.change,
    )


def run_round(
    grid: Grid, strategy: FedAvg, plan: RoundPlan, start: Broadcast, store: UpdateStore
) -> tuple[AggregationResult, Broadcast, HistoryEntry]:
    """Runs one round of FederatedAveraging, Algorithm 1 in McMahan et al. 2017, https://arxiv.org/abs/1602.05629.

    The strategy samples hospitals (S_t); each trains from the global weights (ClientUpdate); the strategy averages
    their weights by number of images (w_t+1). In a validated round all participants then score the new global weights,
    as they will have them.
    """
    started, hospitals = time.monotonic(), plan.participants.hospitals
    training = ask(grid, configure_train(strategy, plan, start), hospitals, plan.deadline, store)
    result, validation = aggregate(strategy, plan, start.arrays, training), NO_EXCHANGE
    model = announce(start, result.arrays, plan) if plan.compact else Broadcast(result.arrays)
    if plan.validates:
        questions = configure_evaluate(strategy, plan, model, training.unheard)
        validation = ask(grid, questions, hospitals, plan.deadline)
    scores = validate_scores(validation.replies)
    means = average_scores(strategy, plan.number, scores.with_images().values())
    entry = HistoryEntry(
        epoch=plan.number,
        learning_rate=plan.instructions.learning_rate,
        image_size=plan.instructions.image_size,
        seconds=time.monotonic() - started,
        weights_sha256=digest(weights_only(model.arrays)),
        train_loss=result.means.get("loss"),
        train_accuracy=result.means.get("accuracy"),
        val_loss=means.get("loss"),
        val_accuracy=means.get("accuracy"),
        hospitals=hospital_scores(result, training, scores, validation),
        refused=[*result.refused, *scores.refused, *validation.silent],
        remarks=list(result.remarks),
    )
    return result, model, entry


def _log_round(entry: HistoryEntry, rounds: int, level: int) -> None:
    for refusal in entry.refused:
        log.warning("round %d: %s was refused: %s", entry.epoch, refusal.hospital, refusal.reason)
    for remark in entry.remarks:
        log.warning("round %d: %s: %s", entry.epoch, remark.hospital, remark.reason)
    hospitals = ", ".join(f"{name} {_percent(scores.val_accuracy)}" for name, scores in entry.hospitals.items())
    log.log(
        level,
        "round %d/%d: training loss %.3f, validation accuracy %s (%s), %.1f s",
        entry.epoch,
        rounds,
        entry.train_loss,
        _percent(entry.val_accuracy),
        hospitals,
        entry.seconds,
    )


def _percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"
