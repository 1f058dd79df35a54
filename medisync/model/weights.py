"""A network's weights as plain tensors: serialised, read from untrusted files, checked and compared."""

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
"""Values compared at once: few enough to stay in the cache and for BLAS to use one thread, which takes a third of the
time that whole arrays take."""


def is_running_statistic(key: str) -> bool:
    """True for the key of one of BatchNorm's running statistics in a state_dict."""
    return key.rpartition(".")[2] in ("running_mean", "running_var")


def has_batchnorm(state: State) -> bool:
    """True for the weights of a network with BatchNorm, False for those of one with GroupNorm."""
    return any(map(is_running_statistic, state))


def cpu_copy(tensor: Tensor) -> Tensor:
    """Copies a tensor to contiguous memory on the CPU, so that whoever sends or compares it need not rearrange it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def serialise(state: State) -> bytes:
    """The bytes of a .pth file of CPU tensors, with convolution kernels and matrices at half precision.

    Half precision keeps 11 significant bits and bfloat16, in which networks compute, keeps 8: the file is half as large
    and loses nothing that prediction would use.
    """
    buffer = io.BytesIO()
    torch.save({key: _halved(tensor).detach().cpu().contiguous() for key, tensor in state.items()}, buffer)
    return buffer.getvalue()


def round_weights(state: State) -> dict[str, Tensor]:
    """The state as read back from `serialise`: convolution kernels and matrices rounded to half precision."""
    return {key: _halved(tensor).to(tensor.dtype) for key, tensor in state.items()}


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor


def read_checked(file: Path, sha256: str | None) -> bytes:
    """The bytes of a file that belongs to a model.

    Raises ModelError if it cannot be read, or if its SHA-256 is not the one given.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{file.name} cannot be read ({error.strerror}); train a model with `medisync train`"
        ) from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{file.name} is not the file that the run wrote: its SHA-256 differs")
    return data


def read_state(file: Path, sha256: str | None) -> dict[str, Tensor]:
    """The tensors in a .pth file, those of half precision as float32; a pickle in it is never executed.

    Raises ModelError if `read_checked` does, or if the file holds anything but a state_dict of tensors.
    """
    data = read_checked(file, sha256)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torch raises many kinds for arbitrary bytes; all of them mean "no")
        reason = (str(error).splitlines() or ["unknown format"])[0][:120]
        raise ModelError(f"{file.name} is not a file of plain weights, so it was not loaded ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelError(f"{file.name} holds {type(state).__name__}, expected a state_dict of tensors")
    return {key: tensor.float() if tensor.dtype == torch.float16 else tensor for key, tensor in state.items()}


def find_problem(state: State, expected: State) -> str:
    """The first difference from `expected` in keys, shapes or dtypes, or the first key with a value that is not finite.

    Empty if `state` can take the place of `expected`.
    """
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
    # the sum is much quicker: if it is finite, so is every value; if it is not, finite values may have overflowed
    if not (torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all()):
        return "holds values that are not finite (NaN or infinity)"
    return ""


def l2_distance(one: Mapping[str, ArrayLike], other: Mapping[str, ArrayLike], keys: Iterable[str]) -> float:
    """The L2 distance over the arrays of these keys, recomputed in doubles if squares overflow in single precision."""
    pairs = [(np.asarray(one[key]).ravel(), np.asarray(other[key]).ravel()) for key in keys]
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile update may hold numbers of any size
        square = sum(_squared_distance(*pair, np.float32) for pair in pairs)
    return math.sqrt(square if math.isfinite(square) else sum(_squared_distance(*pair, np.float64) for pair in pairs))


def _squared_distance(one: NDArray[np.floating], other: NDArray[np.floating], precision: type[np.floating]) -> float:
    total = 0.0
    for start in range(0, len(one), DISTANCE_BLOCK):
        stop = start + DISTANCE_BLOCK
        change = np.subtract(one[start:stop], other[start:stop], dtype=precision, casting="same_kind")
        total += float(change @ change)
    return total
