"""How updates become one global model: Flower's strategies, each with our screening in front of it."""

from collections.abc import Mapping

import numpy as np
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, FedYogi, MultiKrum
from numpy.typing import NDArray

from medisync.config import FederationConfig
from medisync.errors import ConfigError
from medisync.federation.update_validation import Screened


class CheckedFedAvg(Screened, FedAvg):
    """w = sum_k n_k w_k / sum_k n_k: McMahan et al. 2017, https://arxiv.org/abs/1602.05629."""


class CheckedFedProx(Screened, FedProx):
    """FedAvg of hospitals that are pulled back to the global weights: Li et al. 2020, https://arxiv.org/abs/1812.06127."""


class CheckedFedAvgM(Screened, FedAvgM):
    """FedAvg with momentum at the server: Hsu et al. 2019, https://arxiv.org/abs/1909.06335."""


class CheckedFedAdam(Screened, FedAdam):
    """Adam at the server on the mean update: Reddi et al. 2021, https://arxiv.org/abs/2003.00295."""


class CheckedFedYogi(Screened, FedYogi):
    """Yogi at the server on the mean update: Reddi et al. 2021, https://arxiv.org/abs/2003.00295."""


class CheckedFedMedian(Screened, FedMedian):
    """The median of each weight: Yin et al. 2018, https://arxiv.org/abs/1803.01498."""

    robust = True


class CheckedTrimmedMean(Screened, FedTrimmedAvg):
    """The mean of each weight without its extremes: Yin et al. 2018, https://arxiv.org/abs/1803.01498."""

    robust = True
    suspects = 1
    """How many of the updates to cut off at either end."""


class CheckedKrum(Screened, MultiKrum):
    """The mean of the updates nearest to the others, without as many as are suspected: the Multi-Krum of Blanchard et al. 2017,
    https://arxiv.org/abs/1703.02757. Their Krum, which takes the one nearest update, trains on one hospital a round.
    """

    robust = True


def build_strategy(config: FederationConfig, hospitals: Mapping[int, str]) -> Screened:
    """The strategy that the configuration names, for hospitals by node.

    Raises ConfigError where there are too few hospitals to withstand as many malicious ones as it names.
    """
    strategy = _named(config, hospitals)
    set_hospitals(strategy, hospitals)
    return strategy


def _named(config: FederationConfig, hospitals: Mapping[int, str]) -> Screened:
    member = (hospitals, config.min_hospitals, config.participation)
    rate, suspects = config.server_learning_rate, config.malicious_hospitals
    match config.strategy:
        case "fedavg":
            return CheckedFedAvg(*member)
        case "fedprox":
            return CheckedFedProx(*member, proximal_mu=config.proximal_mu)
        case "fedavgm":
            return CheckedFedAvgM(*member, server_learning_rate=rate, server_momentum=config.server_momentum)
        case "fedadam":
            return CheckedFedAdam(*member, eta=rate, beta_1=config.server_momentum)
        case "fedyogi":
            return CheckedFedYogi(*member, eta=rate, beta_1=config.server_momentum)
        case "fedmedian":
            return CheckedFedMedian(*member)
        case "trimmed-mean":
            trimmed = CheckedTrimmedMean(*member)
            trimmed.suspects = suspects
            return trimmed
        case "krum":
            return CheckedKrum(*member, num_malicious_nodes=suspects)


def _trimmed_share(suspects: int, hospitals: int) -> float:
    """The share to cut off at either end so that Flower cuts exactly `suspects` of the updates."""
    if hospitals <= 2 * suspects:
        raise ConfigError(
            f"MALICIOUS_HOSPITALS: a trimmed mean withstands {suspects} only among {2 * suspects + 1} or more hospitals,"
            f" there are {hospitals}"
        )
    return (suspects + 0.25) / hospitals if suspects else 0.0


def set_hospitals(strategy: Screened, hospitals: Mapping[int, str]) -> None:
    """Who takes part in the next round. Raises ConfigError where too few are left to cut the suspects off."""
    strategy.hospitals = hospitals
    if isinstance(strategy, CheckedTrimmedMean):
        strategy.beta = _trimmed_share(strategy.suspects, len(hospitals))
    elif isinstance(strategy, CheckedKrum):
        strategy.num_nodes_to_select = max(1, len(hospitals) - strategy.num_malicious_nodes)


def set_learning_rate(strategy: Screened, rate: float) -> None:
    """The server's learning rate of the next round, for the strategies that have one."""
    if isinstance(strategy, CheckedFedAvgM):
        strategy.server_learning_rate = rate
    elif isinstance(strategy, CheckedFedAdam | CheckedFedYogi):
        strategy.eta = rate


MOMENTS = ("m_t", "v_t")
"""Flower's names for the two moments of Adam and Yogi."""


def optimiser_state(strategy: Screened) -> dict[str, NDArray[np.generic]]:
    """What the server's optimiser carries from round to round, by name; empty for strategies without one."""
    if isinstance(strategy, CheckedFedAvgM):
        return {str(position): array for position, array in enumerate(strategy.momentum_vector or [])}
    if isinstance(strategy, CheckedFedAdam | CheckedFedYogi):
        moments = {moment: getattr(strategy, moment) or {} for moment in MOMENTS}
        return {f"{moment}/{key}": array for moment, arrays in moments.items() for key, array in arrays.items()}
    return {}


def restore_optimiser(strategy: Screened, state: Mapping[str, NDArray[np.generic]]) -> None:
    """The reverse of `optimiser_state`, on a new strategy."""
    if isinstance(strategy, CheckedFedAvgM):
        strategy.momentum_vector = list(state.values()) or None
    elif isinstance(strategy, CheckedFedAdam | CheckedFedYogi):
        for moment in MOMENTS:
            prefix = f"{moment}/"
            arrays = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
            setattr(strategy, moment, arrays or None)
