"""The network, and weights that can be trusted: built, serialised, loaded and checked here only."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from medisync.errors import ConfigError, ModelError

State = Mapping[str, Tensor]
"""A state_dict: weights, biases and BatchNorm's buffers, by name."""


@dataclass(frozen=True)
class Device:
    """Where to compute, and whether the hardware multiplies bfloat16 natively."""

    kind: Literal["cpu", "cuda"]
    bfloat16: bool


def select_device(wanted: str) -> Device:
    """The device named by `wanted` ("auto", "cpu" or "cuda"). Raises ConfigError for CUDA where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("DEVICE: 'cuda' was asked for, but this machine has no CUDA GPU; use 'auto' or 'cpu'")
    if wanted != "cpu" and torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return Device("cpu", bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")))


def describe_device(device: Device) -> str:
    """For a person: "CPU, 2 threads, bfloat16" or the GPU's name."""
    name = torch.cuda.get_device_name() if device.kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, {'bfloat16' if device.bfloat16 else 'float32'}"


def build(classes: int = 4, *, seed: int = 0) -> nn.Module:
    """ResNet18 without pretrained weights (He et al. 2016, https://arxiv.org/abs/1512.03385), `classes` outputs.

    Takes float [N, 3, S, S] as `images.normalise` makes it and returns logits [N, classes]. The same seed gives the same
    weights; the global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resnet18(weights=None, num_classes=classes)


def restore(state: State, device: Device) -> nn.Module:
    """The network with these weights, on the device."""
    network = build()
    network.load_state_dict(dict(state))
    return network.to(device.kind, memory_format=torch.channels_last)  # type: ignore[call-overload]


def forward(network: nn.Module, batch: Tensor, device: Device) -> Tensor:
    """Logits float32 [N, classes] of a normalised batch, computed in bfloat16 where the device is fast at it."""
    with torch.autocast(device.kind, torch.bfloat16, enabled=device.bfloat16):
        logits: Tensor = network(batch)
    return logits.float()


def serialise(state: State) -> bytes:
    """The bytes of a .pth file that holds nothing but tensors, on the CPU."""
    buffer = io.BytesIO()
    torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, buffer)
    return buffer.getvalue()


def load(file: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The checked weights in `file`; ModelError says what is wrong with anything else.

    Read with `weights_only=True`, so that a malicious pickle is refused and not executed; then the hash where one is
    given, the keys, shapes and dtypes of our ResNet18, and finite values.
    """
    state = _read(file, sha256)
    if problem := find_problem(state, build().state_dict()):
        raise ModelError(f"{file.name} does not fit this program's ResNet18: {problem}")
    return state


def _read(file: Path, sha256: str | None) -> dict[str, Tensor]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{file.name} cannot be read ({error.strerror}); train a model with `medisync train`"
        ) from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{file.name} is not the file that the run wrote: its SHA-256 differs")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch raises whatever arbitrary bytes lead it to; all of it means "no")
        reason = (str(error).splitlines() or ["unknown format"])[0][:120]
        raise ModelError(f"{file.name} is no file of plain weights, so it was not loaded ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelError(f"{file.name} holds {type(state).__name__}, expected a state_dict of tensors")
    return state


def is_statistic(key: str) -> bool:
    """Whether a key of a state_dict is one of BatchNorm's running statistics."""
    return key.rpartition(".")[2] in ("running_mean", "running_var")


def find_problem(state: State, expected: State) -> str:
    """What keeps `state` from standing in for `expected`, naming the key; empty if nothing does."""
    if missing := sorted(expected.keys() - state.keys()):
        return f"{missing[0]} is missing ({len(missing)} keys in all)"
    if extra := sorted(map(str, state.keys() - expected.keys())):
        return f"{extra[0]} is unknown ({len(extra)} keys in all)"
    for key, reference in expected.items():
        if problem := _find_tensor_problem(state[key], reference):
            return f"{key} {problem}"
    return ""


def _find_tensor_problem(tensor: Tensor, reference: Tensor) -> str:
    if tensor.shape != reference.shape:
        return f"has shape {list(tensor.shape)}, expected {list(reference.shape)}"
    if tensor.dtype != reference.dtype:
        return f"has dtype {tensor.dtype}, expected {reference.dtype}"
    if not torch.isfinite(tensor).all():
        return "holds values that are not finite (NaN or infinity)"
    return ""
