"""What Adam remembers of the gradients, as tensors that travel with the weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medisync.model.weights import State, is_statistic, to_send

FIRST, SECOND, STEPS = "adam.first.", "adam.second.", "adam.steps"
"""Keys of the running mean of the gradients, of that of their squares, both by parameter, and of the steps behind them."""

BETAS = (0.9, 0.999)
BOUND = (1 - BETAS[0]) / math.sqrt((1 - BETAS[1]) * (1 - BETAS[0] ** 2 / BETAS[1]))
"""7.3, by the inequality of Cauchy and Schwarz. It also holds for averages of several hospitals' memories (Jensen)."""


def is_moment(key: str) -> bool:
    """Whether a key belongs to Adam's memory, and not to the network."""
    return key.startswith((FIRST, SECOND, STEPS))


def is_weight(key: str) -> bool:
    """Whether a key belongs to what training fits: not to Adam's memory, nor to BatchNorm's statistics."""
    return not (is_moment(key) or is_statistic(key))


def begin(weights: State) -> dict[str, Tensor]:
    """The memory before the first step: zeros for every parameter."""
    parameters = [key for key, tensor in weights.items() if tensor.is_floating_point() and not is_statistic(key)]
    zeros = {f"{kind}{key}": torch.zeros_like(weights[key]) for kind in (FIRST, SECOND) for key in parameters}
    return {**zeros, STEPS: torch.tensor(0)}


def split(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What travels, as the network's part and Adam's."""
    weights = {key: tensor for key, tensor in state.items() if not is_moment(key)}
    return weights, {key: tensor for key, tensor in state.items() if is_moment(key)}


def build(network: nn.Module, learning_rate: float, memory: State, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) that goes on from `memory`; from nothing where it is empty.

    With `weight_decay` every step also shrinks kernels and matrices, not biases and scales, by that share of the learning
    rate: AdamW, Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101.
    """
    kernels = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, learning_rate, betas=BETAS, fused=True)
    for name, parameter in network.named_parameters() if memory else ():
        optimiser.state[parameter] = {
            "step": memory[STEPS].to(parameter.device, torch.float32),
            "exp_avg": torch.empty_like(parameter).copy_(memory[FIRST + name]),
            "exp_avg_sq": torch.empty_like(parameter).copy_(memory[SECOND + name]),
        }
    return optimiser


def read(optimiser: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
    """The optimiser's memory, on the CPU: what `build` goes on from."""
    found: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimiser.state[parameter]
        found[FIRST + name], found[SECOND + name] = (to_send(state[kind]) for kind in ("exp_avg", "exp_avg_sq"))
        found[STEPS] = state["step"].cpu().to(torch.int64)
    return found


def find_problem(state: Mapping[str, Tensor]) -> str:
    """What no Adam can remember, naming the key; empty if nothing.

    A mean of squares is not negative, and the mean of the gradients is at most BOUND times the root of that of their
    squares: so no memory makes a step longer than that many learning rates.
    """
    if STEPS in state and int(state[STEPS]) < 0:
        return f"{STEPS} is negative"
    for key in (key for key in state if key.startswith(SECOND)):
        name = key.removeprefix(SECOND)
        if (state[key] < 0).any():
            return f"{key} holds negative values, and is a mean of squares"
        if (state[FIRST + name].abs() > 1.01 * BOUND * state[key].sqrt() + 1e-12).any():
            return f"{FIRST}{name} holds values that no gradients with the squares in {key} have as their mean"
    return ""
