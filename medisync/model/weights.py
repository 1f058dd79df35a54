"""Weights that can be trusted: serialised, read, compared and checked."""

import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medisync.errors import ModelError

State = Mapping[str, Tensor]
"""A state_dict: weights, biases and BatchNorm's buffers, by name."""


DISTANCE_BLOCK = 8192
"""Stays in the cache, and too short for BLAS to share among threads: in a third of the time of whole arrays."""


def has_statistics(state: State) -> bool:
    """Whether these are weights of a network with BatchNorm; with GroupNorm otherwise."""
    return any(map(is_statistic, state))


def to_send(tensor: Tensor) -> Tensor:
    """A copy on the CPU, its values in their order in memory: whoever sends or compares them need not put them into it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def round_weights(state: State) -> dict[str, Tensor]:
    """The state as a file of `serialise` gives it back: kernels and matrices rounded to half precision."""
    return {key: _halved(tensor).to(tensor.dtype) for key, tensor in state.items()}


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor


def serialise(state: State) -> bytes:
    """The bytes of a .pth file that holds nothing but tensors, on the CPU; kernels and matrices at half precision.

    Half precision keeps 11 bits, and bfloat16, in which networks compute, 8: for half the size nothing is lost that
    prediction would use.
    """
    buffer = io.BytesIO()
    torch.save({key: _halved(tensor).detach().cpu().contiguous() for key, tensor in state.items()}, buffer)
    return buffer.getvalue()


def read_checked(file: Path, sha256: str | None) -> bytes:
    """The bytes of a file of a model. Raises ModelError where it cannot be read, or its hash is another."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{file.name} cannot be read ({error.strerror}); train a model with `medisync train`"
        ) from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{file.name} is not the file that the run wrote: its SHA-256 differs")
    return data


def _read_state(file: Path, sha256: str | None) -> dict[str, Tensor]:
    data = read_checked(file, sha256)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch raises whatever arbitrary bytes lead it to; all of it means "no")
        reason = (str(error).splitlines() or ["unknown format"])[0][:120]
        raise ModelError(f"{file.name} is no file of plain weights, so it was not loaded ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelError(f"{file.name} holds {type(state).__name__}, expected a state_dict of tensors")
    return {key: tensor.float() if tensor.dtype == torch.float16 else tensor for key, tensor in state.items()}


def is_statistic(key: str) -> bool:
    """Whether a key of a state_dict is one of BatchNorm's running statistics."""
    return key.rpartition(".")[2] in ("running_mean", "running_var")


def l2_distance(one: Mapping[str, ArrayLike], other: Mapping[str, ArrayLike], keys: Iterable[str]) -> float:
    """L2 distance in these arrays; in doubles where squares of large changes overflow."""
    pairs = [(np.asarray(one[key]).ravel(), np.asarray(other[key]).ravel()) for key in keys]
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile update may be as large as numbers go
        square = sum(_squared_distance(*pair, np.float32) for pair in pairs)
    return math.sqrt(square if math.isfinite(square) else sum(_squared_distance(*pair, np.float64) for pair in pairs))


def _squared_distance(one: NDArray[np.floating], other: NDArray[np.floating], precision: type[np.floating]) -> float:
    total = 0.0
    for start in range(0, len(one), DISTANCE_BLOCK):
        stop = start + DISTANCE_BLOCK
        change = np.subtract(one[start:stop], other[start:stop], dtype=precision, casting="same_kind")
        total += float(change @ change)
    return total


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
    # a sum that is finite has no other summands, and one that is not may be of finite ones: it is much quicker to make
    if not (torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all()):
        return "holds values that are not finite (NaN or infinity)"
    return ""
