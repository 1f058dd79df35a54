"""Adam's moments as tensors that travel with the weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medisync.model.weights import State, cpu_copy, is_running_statistic

FIRST, SECOND, STEPS = "adam.first.", "adam.second.", "adam.steps"
"""Keys of the first moment (running mean of the gradients) and second moment (running mean of their squares), each
followed by the parameter's name, and of the number of steps behind them."""

BETAS = (0.9, 0.999)
BOUND = (1 - BETAS[0]) / math.sqrt((1 - BETAS[1]) * (1 - BETAS[0] ** 2 / BETAS[1]))
"""Largest ratio of a first moment to the root of its second moment: 7.3, by the Cauchy-Schwarz inequality. It also
holds for averages of several hospitals' moments (Jensen's inequality)."""


def is_moment(key: str) -> bool:
    """True for a key of Adam's moments, False for one of the network."""
    return key.startswith((FIRST, SECOND, STEPS))


def is_weight(key: str) -> bool:
    """True for the key of a trained parameter, False for Adam's moments and BatchNorm's running statistics."""
    return not (is_moment(key) or is_running_statistic(key))


def initial_moments(weights: State) -> dict[str, Tensor]:
    """The moments before the first step: zeros for every parameter."""
    parameters = [
        key for key, tensor in weights.items() if tensor.is_floating_point() and not is_running_statistic(key)
    ]
    zeros = {f"{kind}{key}": torch.zeros_like(weights[key]) for kind in (FIRST, SECOND) for key in parameters}
    return {**zeros, STEPS: torch.tensor(0)}


def split_moments(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a state that was sent into the network's weights and Adam's moments; the moments may be empty."""
    weights = {key: tensor for key, tensor in state.items() if not is_moment(key)}
    return weights, {key: tensor for key, tensor in state.items() if is_moment(key)}


def build_adam(network: nn.Module, learning_rate: float, moments: State, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam for the network's parameters, resumed from `moments`, or starting afresh where they are empty.

    With `weight_decay`, every step also shrinks convolution kernels and matrices, but not biases and scales, by that
    fraction of the learning rate.

    Adam: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; decoupled weight decay (AdamW): Loshchilov & Hutter 2019,
    https://arxiv.org/abs/1711.05101.
    """
    matrices = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, learning_rate, betas=BETAS, fused=True)
    for name, parameter in network.named_parameters() if moments else ():
        optimiser.state[parameter] = {
            "step": moments[STEPS].to(parameter.device, torch.float32),
            "exp_avg": torch.empty_like(parameter).copy_(moments[FIRST + name]),
            "exp_avg_sq": torch.empty_like(parameter).copy_(moments[SECOND + name]),
        }
    return optimiser


def read_moments(optimiser: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
    """Copies the optimiser's moments to the CPU, in the form that `build_adam` resumes from."""
    moments: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimiser.state[parameter]
        moments[FIRST + name], moments[SECOND + name] = (cpu_copy(state[kind]) for kind in ("exp_avg", "exp_avg_sq"))
        moments[STEPS] = state["step"].cpu().to(torch.int64)
    return moments


def find_moment_problem(state: Mapping[str, Tensor]) -> str:
    """The first problem with Adam's moments in `state`, naming the key; empty if there is none.

    Second moments are means of squares and cannot be negative, and a first moment is at most BOUND times the root of
    its second moment. So no accepted moments make a step longer than BOUND learning rates.
    """
    if STEPS in state and int(state[STEPS]) < 0:
        return f"{STEPS} is negative"
    for key in (key for key in state if key.startswith(SECOND)):
        name = key.removeprefix(SECOND)
        if (state[key] < 0).any():
            return f"{key} holds negative values, but it is a mean of squares"
        if (state[FIRST + name].abs() > 1.01 * BOUND * state[key].sqrt() + 1e-12).any():
            return f"{FIRST}{name} holds values that no gradients with the squares in {key} have as their mean"
    return ""
