"""Each hospital's own BatchNorm statistics: SiloBN, Andreux et al. 2020, https://arxiv.org/abs/2008.07424.

Hospitals share every weight, but each normalises by what its own scanners make: by the mean and variance of every channel over
its own training scans. Scans from elsewhere are normalised by the mean of the hospitals' statistics.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from medisync.errors import ModelError
from medisync.model.resnet import weight_layout
from medisync.model.weights import State, find_problem, is_statistic

Statistics = Mapping[str, State]
"""By hospital: the `running_mean` and `running_var` of every layer, float32 [channels]."""

SEPARATOR = "/"
"""Between a hospital's name and a layer's, in the file; no layer's name has one."""


def of(state: State) -> dict[str, torch.Tensor]:
    """The statistics among the weights."""
    return {key: tensor for key, tensor in state.items() if is_statistic(key)}


def mean(statistics: Statistics, images: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """What scans from no known hospital are normalised by: the mean weighted by training images; empty without statistics."""
    total = sum(images[name] for name in statistics)
    first = next(iter(statistics.values()), {})
    return {
        key: torch.stack([own[key] * (images[name] / total) for name, own in statistics.items()]).sum(dim=0)
        for key in first
    }


def find_statistics_problem(found: State) -> str:
    """What keeps these from being one hospital's statistics; empty if nothing does."""
    if problem := find_problem(found, of(weight_layout("local"))):
        return problem
    negative = sorted(key for key, tensor in found.items() if key.endswith("running_var") and (tensor < 0).any())
    return f"{negative[0]} holds a negative variance" if negative else ""


def to_bytes(statistics: Statistics) -> bytes:
    """A safetensors file."""
    named = {f"{name}{SEPARATOR}{key}": tensor for name, own in statistics.items() for key, tensor in own.items()}
    return save({key: tensor.contiguous() for key, tensor in named.items()})


def from_bytes(data: bytes) -> dict[str, dict[str, torch.Tensor]]:
    """Raises ModelError for anything but what `to_bytes` made; nothing in the file is executed."""
    try:
        named = load(data)
    except SafetensorError as error:
        raise ModelError(f"the hospitals' statistics cannot be read ({error}); train the model again") from None
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in named.items():
        name, _, layer = key.rpartition(SEPARATOR)
        found.setdefault(name, {})[layer] = tensor
    for name, own in found.items():
        if problem := find_statistics_problem(own):
            raise ModelError(f"the statistics of {name} do not fit this program's ResNet18: {problem}")
    return found
