"""Quantisation: how far a value may move, what damaged values do, and that nothing is lost in the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medisync.federation.quantisation import (
    BLOCK,
    Quantised,
    dequantise,
    dequantise_magnitudes,
    from_blocks,
    quantise,
    quantise_magnitudes,
    to_blocks,
)

BITS = st.sampled_from([2, 4, 8])
MODERATE = st.floats(-(2.0**100), 2.0**100, width=32)
VALUES = arrays(np.float32, st.integers(1, 40), elements=MODERATE, fill=MODERATE)

TINY = np.float32(2.0**-120)
"""Numbers near the smallest of float32 may become 0."""


def block(*values: float) -> np.ndarray:
    return to_blocks(np.array(values, np.float32))


def test_four_bits_by_hand() -> None:
    """The largest value, 7, is seven steps of 1; 2.4 goes to 2 and -3.6 to -4; two codes share a byte, the first below."""
    found = quantise(block(7.0, 2.4, -3.6), 4)
    assert found.scales.tolist() == [1.0]
    assert found.codes[0, :2].tolist() == [(7 + 7) + 16 * (2 + 7), (-4 + 7) + 16 * 7]
    assert dequantise(found, 4)[0, :4].tolist() == [7.0, 2.0, -4.0, 0.0]


@given(VALUES, BITS)
def test_nearest_rounding_moves_a_value_by_half_a_step_at_most(values: np.ndarray, bits: int) -> None:
    blocks = to_blocks(values)
    found = quantise(blocks, bits)
    moved = np.abs(dequantise(found, bits) - blocks)
    slack = 2e-6 * np.abs(blocks).max(axis=1) + TINY  # the products' own rounding
    assert (moved.max(axis=1) <= found.scales / 2 + slack).all()
    assert found.codes.nbytes == blocks.size * bits // 8


@given(VALUES, BITS, st.integers(0, 5))
def test_random_rounding_moves_a_value_by_a_step_at_most_and_is_repeatable(
    values: np.ndarray, bits: int, seed: int
) -> None:
    blocks = to_blocks(values)
    found = quantise(blocks, bits, np.random.default_rng(seed))
    moved = np.abs(dequantise(found, bits) - blocks)
    assert (moved.max(axis=1) <= found.scales * 1.00001 + TINY).all()
    again = quantise(blocks, bits, np.random.default_rng(seed))
    assert np.array_equal(found.codes, again.codes)


def test_random_rounding_is_right_in_the_mean() -> None:
    """0.3 of a step: 512 values are 0 or 1, and their mean is 0.3 within five standard errors, 5 * 0.46 / 22.6."""
    values = np.full((1, BLOCK), 0.3, np.float32)
    values[0, 0] = 7.0
    found = dequantise(quantise(values, 4, np.random.default_rng(1)), 4)[0, 1:]
    assert set(found.tolist()) == {0.0, 1.0}
    assert found.mean() == pytest.approx(0.3, abs=0.1)


ROUNDS = arrays(np.float32, st.tuples(st.integers(2, 6), st.integers(1, 40)), elements=MODERATE)


@given(ROUNDS, BITS)
def test_with_feedback_what_was_sent_adds_up_to_what_was_meant(changes: np.ndarray, bits: int) -> None:
    """However many rounds: the sums differ by what the last rounding held back, half a step at most."""
    error = np.zeros_like(to_blocks(changes[0]), np.float64)
    sent, meant = np.zeros_like(error), np.zeros_like(error)
    for change in changes:
        target = (to_blocks(change) + error).astype(np.float32)
        found = quantise(target, bits)
        received = dequantise(found, bits).astype(np.float64)
        error = target - received
        sent += received
        meant += to_blocks(change)
    step = found.scales[:, None].astype(np.float64)
    largest = np.abs(changes).max()
    assert (np.abs(sent - meant) <= step / 2 + 1e-5 * len(changes) * largest * 2 + TINY).all()


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 2.0**100, width=32)))
def test_a_magnitude_moves_by_a_sixteenth_of_itself_at_most(values: np.ndarray) -> None:
    blocks = to_blocks(values)
    found = dequantise_magnitudes(quantise_magnitudes(blocks))
    smallest = np.maximum(np.float32(2**-30) * blocks.max(axis=1, keepdims=True), TINY)
    assert (np.abs(found - blocks) <= np.maximum(blocks / 15.99, smallest)).all()
    assert (found >= 0).all()


def test_magnitudes_by_hand() -> None:
    """Three digits behind the point in base two: 1.0625 of the largest's 2 is 1.0; 0.3 is 1.25 quarters of 1: 0.3125."""
    found = dequantise_magnitudes(quantise_magnitudes(block(1.0, 0.53, 0.3, 0.0, 1e-12)))
    assert found[0, :5].tolist() == [1.0, 0.5, 0.3125, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_block_with_a_value_that_is_not_finite_comes_back_as_nan_and_the_others_as_they_were(bad: float) -> None:
    values = np.concatenate([block(1.0, bad), block(1.0)])
    for found in (dequantise(quantise(values, 4), 4), dequantise_magnitudes(quantise_magnitudes(np.abs(values)))):
        assert np.isnan(found[0]).all()
        assert found[1, 0] == 1.0


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3e38])
def test_any_codes_and_scales_can_be_decoded(scale: float) -> None:
    codes = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=1)
    scales = np.array([scale], np.float32)
    assert dequantise(Quantised(codes[:, : BLOCK // 2], scales), 4).shape == (1, BLOCK)
    assert dequantise_magnitudes(Quantised(codes, scales)).shape == (1, BLOCK)


def test_values_that_are_tiny_or_zero_stay_finite() -> None:
    for values in (block(0.0, 0.0), block(1e-45, 0.0), block(1e-38, 1e-42)):
        assert np.isfinite(dequantise(quantise(values, 8), 8)).all()
        assert np.isfinite(dequantise_magnitudes(quantise_magnitudes(values))).all()


def test_blocks_hold_the_values_of_an_array_of_any_shape() -> None:
    array = np.arange(BLOCK + 6, dtype=np.float32).reshape(2, -1)
    blocks = to_blocks(array)
    assert blocks.shape == (2, BLOCK)
    assert (blocks[1, :6].tolist(), blocks[1, 6:].any()) == ([BLOCK + k for k in range(6)], False)
    assert np.array_equal(from_blocks(blocks, array.shape), array)
    assert from_blocks(to_blocks(np.float32(3).reshape(())), ()) == 3.0
