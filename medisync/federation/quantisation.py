"""Quantisation: floats in a few bits each, in blocks that have one scale.

Signed values, such as changes of weights, take equal steps. Values that are never negative and reach over many powers
of ten, such as mean squared gradients, are written as small floating-point numbers. Both are computed with additions,
products and shifts of bits alone, which every machine rounds alike: what a hospital reconstructs has the bits that the
server reconstructs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Values with one scale: 4 bytes to 256 at four bits."""

MANTISSA = 3
"""Bits behind the leading one of a small float: it is at most 1/16 away from its value."""

Blocks = NDArray[np.float32]
"""Values as float32 [blocks, BLOCK]."""

_FRACTION = 23
"""Bits behind the leading one of a float32."""


@dataclass(frozen=True)
class Quantised:
    """Values in a few bits each."""

    codes: NDArray[np.uint8]
    """[blocks, BLOCK * bits / 8]."""
    scales: NDArray[np.float32]
    """[blocks]: the value of one step, or the largest value of the block for small floats."""


def block_count(shape: Sequence[int]) -> int:
    """Returns the number of blocks of an array of this shape."""
    return -(-math.prod(shape) // BLOCK)


def to_blocks(array: NDArray[np.float32]) -> Blocks:
    """Returns the values of an array of any shape; zeros fill the last block."""
    blocks = np.zeros((block_count(array.shape), BLOCK), np.float32)
    blocks.reshape(-1)[: array.size] = array.reshape(-1)
    return blocks


def from_blocks(blocks: Blocks, shape: Sequence[int]) -> NDArray[np.float32]:
    """Returns the array that `to_blocks` was given, as a view."""
    return blocks.reshape(-1)[: math.prod(shape)].reshape(shape)


def quantise(values: Blocks, bits: int, generator: np.random.Generator | None = None) -> Quantised:
    """Returns the values as whole numbers of steps, of which the largest of its block has 2^(bits-1) - 1.

    `bits` is 2, 4 or 8. Without a generator each value goes to the nearest step and moves by at most half a step. With
    one it goes up or down with the probability that makes its mean exact: Alistarh et al. 2017,
    https://arxiv.org/abs/1610.02132. A block with a value that is not finite comes back as NaN.
    """
    top = 2 ** (bits - 1) - 1
    values, largest = _finite_blocks(values, np.abs(values).max(axis=1))
    scales = largest / np.float32(top)
    steps = values * _inverse(scales)[:, None]
    if generator is None:
        np.rint(steps, out=steps)
    else:
        steps += generator.random(steps.shape, np.float32)
        np.floor(steps, out=steps)
    np.clip(steps, -top, top, out=steps)
    steps += top
    return Quantised(_pack(steps.astype(np.uint8), bits), scales)


def dequantise(quantised: Quantised, bits: int) -> Blocks:
    """Reverses `quantise`; codes and scales of any value give some result, perhaps one that is not finite."""
    top = np.float32(2 ** (bits - 1) - 1)
    steps = _unpack(quantised.codes, bits).astype(np.float32)
    steps -= top
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile hospital may send any scale
        steps *= quantised.scales[:, None]
    return steps


def quantise_magnitudes(values: Blocks) -> Quantised:
    """Returns values from 0 up as floats of eight bits, relative to the largest of their block.

    Each moves by at most a sixteenth of itself, down to 2^-31 of the largest value; what is smaller becomes 0.
    """
    values, scales = _finite_blocks(values, values.max(axis=1))
    bits = np.ascontiguousarray(values * _inverse(scales)[:, None]).view(np.uint32)
    bits += np.uint32(1 << (_FRACTION - MANTISSA - 1))
    bits >>= np.uint32(_FRACTION - MANTISSA)
    codes = np.clip(bits.view(np.int32) - (_ONE - 255), 0, 255).astype(np.uint8)
    return Quantised(codes, scales)


def dequantise_magnitudes(quantised: Quantised) -> Blocks:
    """Reverses `quantise_magnitudes`."""
    with np.errstate(over="ignore", invalid="ignore"):
        magnitudes: Blocks = _MAGNITUDES[quantised.codes] * quantised.scales[:, None]
    return magnitudes


def _finite_blocks(values: Blocks, largest: NDArray[np.float32]) -> tuple[Blocks, NDArray[np.float32]]:
    """Returns the blocks and their largest values: 0 and NaN where a value is not finite."""
    finite = np.isfinite(largest)
    if finite.all():
        return values, largest
    return np.where(finite[:, None], values, np.float32(0)), np.where(finite, largest, np.float32(np.nan))


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns 1 over the scales, and 0 for those that are 0, too small to be inverted, or NaN."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scales
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Returns [blocks, n] codes of a few bits as bytes [blocks, n * bits / 8], the first in the lowest bits."""
    parts = 8 // bits
    packed = codes[:, ::parts].copy()
    for part in range(1, parts):
        packed |= codes[:, part::parts] << np.uint8(bits * part)
    return packed


def _unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    parts = 8 // bits
    codes = np.empty((len(packed), packed.shape[1] * parts), np.uint8)
    for part in range(parts):
        codes[:, part::parts] = (packed >> np.uint8(bits * part)) & np.uint8(2**bits - 1)
    return codes


def _magnitudes() -> NDArray[np.float32]:
    """Returns the value of each code relative to the largest of its block: 0, then up to 1."""
    bits = (np.arange(256, dtype=np.int64) + (_ONE - 255)) << (_FRACTION - MANTISSA)
    values = bits.astype(np.uint32).view(np.float32)
    values[0] = 0
    return values


_ONE = int(np.float32(1).view(np.uint32)) >> (_FRACTION - MANTISSA)
"""The leading bits of 1.0."""

_MAGNITUDES = _magnitudes()
