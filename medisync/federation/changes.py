"""Changes: what turns the arrays that a receiver has into those that the sender means, in few bits.

Weights change by four bits a value. Of second moments, if they are handed on at all, the mean squared gradients since
they were last handed on travel in eight: they need fewer digits than their slow mean. First moments need not travel: the
mean step of the hospitals shows them. Everything else, such as counters and running statistics, travels as it is. Codes
are entropy-coded, because most changes are small.

Both sides reconstruct with `decode`, so the sender knows what its rounding did. A sender that adds what rounding held
back to what it means next (error feedback) loses nothing in the long run: Seide et al. 2014,
https://doi.org/10.21437/Interspeech.2014-274, and Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medisync.errors import UpdateError
from medisync.federation.quantisation import (
    BLOCK,
    Quantised,
    block_count,
    dequantise,
    dequantise_magnitudes,
    from_blocks,
    quantise,
    quantise_magnitudes,
    to_blocks,
)
from medisync.model import adam

WEIGHT_BITS = 4

WEIGHTS, SQUARES, SCALES, EXACT, MOMENTUM = "weights", "squares", ".scales", "exact/", "momentum"
"""Names of the tensors of a change: codes of all weights and of all mean squared gradients, their scales, arrays that
travel as they are, and the two numbers of `Momentum`."""

LARGEST = np.float32(0.95 * adam.BOUND)
"""Largest ratio of a first moment that follows from a step to the root of its second moment."""

HEADER_BYTES = 1 << 16
"""More than safetensors' header of a ResNet18's change takes."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Momentum:
    """How first moments follow from the change of the weights: Adam's step is proportional to m / sqrt(v)."""

    step: float
    """m / sqrt(v) for a change of 1."""
    decay: float
    """What weight decay added to the change, as m / sqrt(v) for a weight of 1; only matrices decay."""


def encode(
    before: Arrays,
    after: Arrays,
    *,
    moments: bool,
    generator: np.random.Generator | None = None,
    momentum: Momentum | None = None,
) -> bytes:
    """Returns the change from `before` to `after`, which have the same keys, shapes and dtypes, as bytes for `decode`.

    Second moments stay as they are unless `moments` is true, and first moments unless `momentum` is given. With a generator,
    weights are rounded up or down at random, so that rounding is 0 in the mean; without, to the nearest step.
    """
    weights, squares, exact = _sorted_keys(before, moments)
    decay = _decay(before, after) if squares else np.float32(0)
    tensors: dict[str, NDArray[Any]] = {EXACT + key: np.asarray(after[key], order="C") for key in exact}
    if momentum:
        tensors[MOMENTUM] = np.array([momentum.step, momentum.decay], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of an update that is not finite, which is refused later
        changes = (quantise(to_blocks(after[key] - before[key]), WEIGHT_BITS, generator) for key in weights)
        tensors |= _joined(WEIGHTS, changes)
        found = (quantise_magnitudes(to_blocks(_new_squares(before[key], after[key], decay))) for key in squares)
        tensors |= _joined(SQUARES, found)
    return _compress(save(tensors))


def decode(block: bytes, before: Arrays, *, moments: bool, momentum: bool = False) -> dict[str, NDArray[Any]]:
    """Returns the arrays that a change makes of `before`, in its order, with its shapes and dtypes.

    Raises UpdateError unless the block has exactly the tensors, sizes and dtypes of a change of these arrays.
    """
    weights, squares, exact = _sorted_keys(before, moments)
    layout = _layout(before, weights, squares, exact) | ({MOMENTUM: ((2,), np.dtype(np.float32))} if momentum else {})
    tensors = _read(block, layout)
    after = {**before, **{key: tensors[EXACT + key] for key in exact}}
    with np.errstate(over="ignore", invalid="ignore"):
        for key, quantised in _parts(WEIGHTS, tensors, before, weights):
            after[key] = before[key] + from_blocks(dequantise(quantised, WEIGHT_BITS), before[key].shape)
        decay = _decay(before, after) if squares else np.float32(0)
        for key, quantised in _parts(SQUARES, tensors, before, squares):
            found = from_blocks(dequantise_magnitudes(quantised), before[key].shape)
            after[key] = decay * before[key] + (np.float32(1) - decay) * found
        if momentum:
            step, shrink = tensors[MOMENTUM]
            after |= {adam.FIRST + key: _first_moment(key, before, after, step, shrink) for key in weights}
    return after


def _first_moment(key: str, before: Arrays, after: Arrays, step: np.float32, decay: np.float32) -> NDArray[np.float32]:
    """Returns the first moment that made the mean step of the hospitals, up to what any gradients can have."""
    root = np.sqrt(after[adam.SECOND + key])
    first = step * (after[key] - before[key])
    if first.ndim > 1:
        first -= decay * before[key]
    np.clip(first, -LARGEST, LARGEST, out=first)
    first *= root
    return np.asarray(first, np.float32)


def _sorted_keys(arrays: Arrays, moments: bool) -> tuple[list[str], list[str], list[str]]:
    """Returns the keys of weights, of second moments that travel, and of the arrays that travel as they are.

    They are sorted, because the order of a file's arrays is its format's own.
    """
    keys = sorted(arrays)
    weights = [key for key in keys if adam.is_weight(key) and arrays[key].dtype == np.float32]
    squares = [key for key in keys if moments and key.startswith(adam.SECOND)]
    others = [key for key in keys if key not in set(weights) and (not adam.is_moment(key) or key == adam.STEPS)]
    return weights, squares, others


def _decay(before: Arrays, after: Arrays) -> np.float32:
    """Returns the fraction of the second moments before that is left in those after."""
    taken = int(after[adam.STEPS]) - int(before[adam.STEPS])
    return np.float32(adam.BETAS[1] ** min(max(0, taken), 10**6))


def _new_squares(before: NDArray[Any], after: NDArray[Any], decay: np.float32) -> NDArray[np.float32]:
    """Returns the mean squared gradients that turned one second moment into the other."""
    share = np.float32(1) - decay
    if not share:
        return np.zeros_like(after)
    return np.asarray(np.maximum(after - decay * before, np.float32(0)) / share, np.float32)


def _joined(name: str, parts: Iterable[Quantised]) -> dict[str, NDArray[Any]]:
    """Returns the tensors of all parts together; none if there are no parts."""
    found = list(parts)
    if not found:
        return {}
    return {
        name: np.concatenate([part.codes for part in found]),
        name + SCALES: np.concatenate([part.scales for part in found]),
    }


def _parts(name: str, tensors: Arrays, like: Arrays, keys: Sequence[str]) -> Iterator[tuple[str, Quantised]]:
    """Yields each key with its part of the tensors, of as many blocks as its array in `like` has."""
    start = 0
    for key in keys:
        end = start + block_count(like[key].shape)
        yield key, Quantised(tensors[name][start:end], tensors[name + SCALES][start:end])
        start = end


def _layout(before: Arrays, weights: list[str], squares: list[str], exact: list[str]) -> dict[str, tuple[Any, Any]]:
    """Returns shape and dtype of each tensor of a change."""
    layout = {EXACT + key: (before[key].shape, before[key].dtype) for key in exact}
    for name, keys, width in ((WEIGHTS, weights, BLOCK * WEIGHT_BITS // 8), (SQUARES, squares, BLOCK)):
        blocks = sum(block_count(before[key].shape) for key in keys)
        if keys:
            layout |= {name: ((blocks, width), np.dtype(np.uint8)), name + SCALES: ((blocks,), np.dtype(np.float32))}
    return layout


def _compress(block: bytes) -> bytes:
    """Entropy-codes a block: Huffman codes alone, because codes of changes do not repeat."""
    packer = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
    return packer.compress(block) + packer.flush()


def _read(block: bytes, layout: Mapping[str, tuple[Any, Any]]) -> Arrays:
    """Returns the tensors of a block; never unpacks more bytes than such a change can have."""
    size = HEADER_BYTES + sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in layout.values())
    unpacker = zlib.decompressobj()
    try:
        whole = unpacker.decompress(block, size)
        tensors = load(whole) if unpacker.eof else {}
    except (zlib.error, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UpdateError(f"a change of weights cannot be read ({error})") from None
    if {name: (array.shape, array.dtype) for name, array in tensors.items()} != layout:
        raise UpdateError(f"a change of weights has other parts or sizes than expected ({len(layout)} parts)")
    return tensors
