"""Each hospital's own running statistics: SiloBN, Andreux et al. 2020, https://arxiv.org/abs/2008.07424.

Hospitals share every weight, but each normalises with its own running statistics: the mean and variance of every
channel over its own training scans, so with what its own scanners produce. Scans from elsewhere are normalised with the
mean of the hospitals' running statistics.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from medisync.errors import ModelError
from medisync.model.resnet import weight_layout
from medisync.model.weights import State, find_problem, is_running_statistic

HospitalStatistics = Mapping[str, State]
"""By hospital: the `running_mean` and `running_var` of every layer, float32 [channels]."""

SEPARATOR = "/"
"""Between a hospital's name and a layer's, in the file; no layer's name contains it."""


def running_statistics(state: State) -> dict[str, torch.Tensor]:
    """The running statistics in a state_dict, without the weights."""
    return {key: tensor for key, tensor in state.items() if is_running_statistic(key)}


def average_statistics(statistics: HospitalStatistics, images: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """The mean of the hospitals' running statistics, weighted by their training images.

    Scans from no known hospital are normalised with it. Empty if `statistics` is.
    """
    total = sum(images[name] for name in statistics)
    first = next(iter(statistics.values()), {})
    return {
        key: torch.stack([own[key] * (images[name] / total) for name, own in statistics.items()]).sum(dim=0)
        for key in first
    }


def find_statistics_problem(statistics: State) -> str:
    """The first problem with one hospital's running statistics, naming the key; empty if there is none."""
    if problem := find_problem(statistics, running_statistics(weight_layout("local"))):
        return problem
    variances = {key: tensor for key, tensor in statistics.items() if key.endswith("running_var")}
    negative = sorted(key for key, tensor in variances.items() if (tensor < 0).any())
    return f"{negative[0]} holds a negative variance" if negative else ""


def serialise_statistics(statistics: HospitalStatistics) -> bytes:
    """The bytes of a safetensors file of all hospitals' running statistics."""
    named = {f"{name}{SEPARATOR}{key}": tensor for name, own in statistics.items() for key, tensor in own.items()}
    return save({key: tensor.contiguous() for key, tensor in named.items()})


def parse_statistics(data: bytes) -> dict[str, dict[str, torch.Tensor]]:
    """The hospitals' running statistics from the bytes of a file that `serialise_statistics` made.

    Raises ModelError for anything else; nothing in the file is executed.
    """
    try:
        named = load(data)
    except SafetensorError as error:
        raise ModelError(f"the hospitals' running statistics cannot be read ({error}); train the model again") from None
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in named.items():
        name, _, layer = key.rpartition(SEPARATOR)
        found.setdefault(name, {})[layer] = tensor
    for name, own in found.items():
        if problem := find_statistics_problem(own):
            raise ModelError(f"the running statistics of {name} do not fit this program's ResNet18: {problem}")
    return found
