"""Aggregation strategies: Flower's own, built anew for every round from the configuration and the optimiser's state."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, FedYogi, MultiKrum
from numpy.typing import NDArray

from medisync.config import FederationConfig
from medisync.errors import ConfigError
from medisync.federation.broadcast import Broadcast
from medisync.federation.messages import COUNT, METRICS, EvaluateInstructions, Participants
from medisync.federation.plan import RoundPlan
from medisync.federation.update_store import record
from medisync.federation.update_validation import Figures
from medisync.model import adam

ROBUST = (FedMedian, FedTrimmedAvg, MultiKrum)
"""Strategies that withstand extreme updates by themselves, so that nothing is clipped for them."""

MOMENTS = ("m_t", "v_t")
"""Flower's names for the two moments of Adam and Yogi."""

OptimiserState = Mapping[str, NDArray[np.generic]]
"""State that the server's optimiser carries from round to round, by name; empty for strategies without one."""


def build_strategy(config: FederationConfig, plan: RoundPlan, optimiser: OptimiserState | None = None) -> FedAvg:
    """Returns the strategy that the configuration names, for one round.

    FedAvg: McMahan et al. 2017, https://arxiv.org/abs/1602.05629. FedProx: Li et al. 2020,
    https://arxiv.org/abs/1812.06127. FedAvgM: Hsu et al. 2019, https://arxiv.org/abs/1909.06335. FedAdam and FedYogi:
    Reddi et al. 2021, https://arxiv.org/abs/2003.00295. Median and trimmed mean of each weight: Yin et al. 2018,
    https://arxiv.org/abs/1803.01498. Multi-Krum, the mean of the updates nearest to the others: Blanchard et al. 2017,
    https://arxiv.org/abs/1703.02757 (their Krum, which takes the one nearest update, trains on one hospital a round).

    Raises ConfigError if there are too few hospitals to withstand `malicious_hospitals`.
    """
    strategy = _choose(config, plan)
    _restore_optimiser(strategy, optimiser or {})
    return strategy


def _choose(config: FederationConfig, plan: RoundPlan) -> FedAvg:
    hospitals, suspects = len(plan.participants.hospitals), config.malicious_hospitals
    sampling: dict[str, Any] = {
        "fraction_train": config.participation,
        "min_train_nodes": min(plan.min_hospitals, hospitals),
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": COUNT,
    }
    rate, momentum = plan.server_learning_rate, config.server_momentum
    match config.strategy:
        case "fedavg":
            return FedAvg(**sampling)
        case "fedprox":
            return FedProx(**sampling, proximal_mu=config.proximal_mu)
        case "fedavgm":
            return FedAvgM(**sampling, server_learning_rate=rate, server_momentum=momentum)
        case "fedadam":
            return FedAdam(**sampling, eta=rate, beta_1=momentum)
        case "fedyogi":
            return FedYogi(**sampling, eta=rate, beta_1=momentum)
        case "fedmedian":
            return FedMedian(**sampling)
        case "trimmed-mean":
            return FedTrimmedAvg(**sampling, beta=_trimmed_fraction(suspects, hospitals))
        case "krum":
            selected = max(1, hospitals - suspects)
            return MultiKrum(**sampling, num_malicious_nodes=suspects, num_nodes_to_select=selected)


def _trimmed_fraction(suspects: int, hospitals: int) -> float:
    """Returns the fraction to cut off at either end so that Flower cuts exactly `suspects` of the updates."""
    if hospitals <= 2 * suspects:
        raise ConfigError(
            f"MALICIOUS_HOSPITALS: a trimmed mean withstands {suspects} only among {2 * suspects + 1} or more"
            f" hospitals, there are {hospitals}"
        )
    return (suspects + 0.25) / hospitals if suspects else 0.0


def configure_train(strategy: FedAvg, plan: RoundPlan, start: Broadcast) -> list[Message]:
    """Returns one training message for each hospital that the strategy samples; all of them share their content."""
    random.seed(plan.sampling_seed)  # Flower samples with the process's own generator
    config, seen = plan.instructions.to_record(), aggregated_part(start.arrays, is_robust(strategy))
    messages = list(strategy.configure_train(plan.number, seen, config, _as_grid(plan.participants)))
    return _with_content(messages, start.to_content(config))


def configure_evaluate(strategy: FedAvg, plan: RoundPlan, model: Broadcast, unheard: set[str]) -> list[Message]:
    """Returns one validation message for each participant except those `unheard`, which did not reply before."""
    instructions = EvaluateInstructions(plan.instructions.training, image_size=plan.instructions.image_size)
    hospitals = {node: name for node, name in plan.participants.hospitals.items() if name not in unheard}
    grid = _as_grid(Participants(hospitals))
    config = instructions.to_record()
    messages = strategy.configure_evaluate(plan.number, model.arrays, config, grid)
    return _with_content(messages, model.to_content(config))


def _with_content(messages: Iterable[Message], content: RecordDict) -> list[Message]:
    return [Message(content, each.metadata.dst_node_id, each.metadata.message_type) for each in messages]


def average_scores(strategy: FedAvg, number: int, scores: Iterable[Figures]) -> Mapping[str, float]:
    """Returns loss and accuracy averaged over the images of all hospitals; nothing without images."""
    messages = [Message(RecordDict({METRICS: each.to_record()}), 0, MessageType.EVALUATE) for each in scores]
    return dict(strategy.aggregate_evaluate(number, messages) or {})  # type: ignore[arg-type]


def _as_grid(participants: Participants) -> Any:
    """Returns the participants as a grid: Flower's strategies ask it for nothing but its nodes."""
    return participants


def is_robust(strategy: FedAvg) -> bool:
    """Returns whether the strategy withstands extreme updates by itself and therefore has to see them unclipped."""
    return isinstance(strategy, ROBUST)


def is_aggregated(key: str, array: Array, robust: bool) -> bool:
    """Returns whether Flower's strategy aggregates an array: weights, and running statistics and moments if it is robust."""
    return not array.dtype.startswith("int") and (robust or adam.is_weight(key))


def aggregated_part(arrays: ArrayRecord, robust: bool) -> ArrayRecord:
    """Returns a new record of the arrays that Flower's strategy aggregates; their values are shared, not copied."""
    return record({key: array for key, array in arrays.items() if is_aggregated(key, array, robust)})


def optimiser_state(strategy: FedAvg) -> dict[str, NDArray[np.generic]]:
    """Returns the state that the server's optimiser carries to the next round."""
    if isinstance(strategy, FedAvgM):
        return {str(position): array for position, array in enumerate(strategy.momentum_vector or [])}
    if isinstance(strategy, FedAdam | FedYogi):
        moments = {moment: getattr(strategy, moment) or {} for moment in MOMENTS}
        return {f"{moment}/{key}": array for moment, arrays in moments.items() for key, array in arrays.items()}
    return {}


def _restore_optimiser(strategy: FedAvg, state: OptimiserState) -> None:
    """Gives a new strategy the state that `optimiser_state` returned."""
    if isinstance(strategy, FedAvgM):
        strategy.momentum_vector = list(state.values()) or None
    elif isinstance(strategy, FedAdam | FedYogi):
        for moment in MOMENTS:
            prefix = f"{moment}/"
            arrays = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
            setattr(strategy, moment, arrays or None)
