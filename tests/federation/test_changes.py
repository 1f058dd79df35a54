"""Changes of arrays: what both sides reconstruct, and which damaged ones are refused."""

import tracemalloc
import zlib
from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import load, save

from medisync.errors import UpdateError
from medisync.federation import changes
from medisync.model import adam

Arrays = Mapping[str, np.ndarray]


def state(weight: float, square: float = 0.0, steps: int = 0, counter: int = 0) -> dict[str, np.ndarray]:
    return {
        "w": np.full((2, 2), weight, np.float32),
        "bn.running_mean": np.full(2, weight, np.float32),
        "batches": np.array(counter),
        adam.SECOND + "w": np.full((2, 2), square, np.float32),
        adam.STEPS: np.array(steps),
    }


def changed(before: Arrays, after: Arrays, *, moments: bool) -> dict[str, np.ndarray]:
    return changes.decode(changes.encode(before, after, moments=moments), before, moments=moments)


def test_a_change_is_in_steps_of_a_seventh_of_the_largest_and_counters_are_exact() -> None:
    before = state(1.0)
    after = state(1.0, counter=5) | {"w": np.array([[1.7, 1.24], [0.64, 1.0]], np.float32)}
    found = changed(before, after, moments=False)
    assert found["w"].ravel().tolist() == pytest.approx([1.7, 1.2, 0.6, 1.0])
    assert found["bn.running_mean"].tolist() == [1.0, 1.0]
    assert (found["batches"], found["batches"].dtype) == (5, np.int64)
    assert {key: (array.shape, array.dtype) for key, array in found.items()} == {
        key: (array.shape, array.dtype) for key, array in before.items()
    }


def test_second_moments_travel_as_the_squares_since_they_were_handed_on_last() -> None:
    """After 1000 steps 0.999^1000 = 0.368 of the old moment, 2, is left, and 0.632 of squares of 1: 1.368."""
    old = np.float32(0.999**1000)
    before, after = state(0.0, 2.0, 1000), state(0.0, float(old * 2 + (1 - old)), 2000)
    found = changed(before, after, moments=True)
    assert found[adam.SECOND + "w"].ravel().tolist() == pytest.approx([1.368] * 4, abs=1e-3)
    assert found[adam.STEPS] == 2000


def test_moments_that_are_not_handed_on_stay_as_they_were() -> None:
    found = changed(state(0.0, 2.0, 1000), state(0.0, 1.0, 2000), moments=False)
    assert found[adam.SECOND + "w"].ravel().tolist() == [2.0] * 4
    assert found[adam.STEPS] == 2000  # the steps that were taken, of which the server needs to know


def test_the_order_of_the_arrays_does_not_matter() -> None:
    """A file of weights has an order of its own."""
    before = {key: np.full(3, value, np.float32) for key, value in (("b", 1.0), ("a", 0.0))}
    after = {"b": before["b"] + np.float32(0.7), "a": before["a"] - np.float32(0.1)}
    block = changes.encode(before, after, moments=False)
    found = changes.decode(block, dict(sorted(before.items())), moments=False)
    assert found["b"].tolist() == pytest.approx([1.7] * 3)
    assert found["a"].tolist() == pytest.approx([-0.1] * 3)


def test_a_change_of_a_model_takes_half_a_byte_a_weight_at_most() -> None:
    before = {"w": np.zeros(100_000, np.float32)}
    after = {"w": np.random.default_rng(0).standard_normal(100_000).astype(np.float32)}
    assert len(changes.encode(before, after, moments=False)) < 45_000


BEFORE = state(1.0, 1.0, 10)
GOOD = changes.encode(BEFORE, state(2.0, 1.0, 14), moments=True)


def repacked(**replaced: np.ndarray) -> bytes:
    """Returns the good change with other parts."""
    return zlib.compress(save({**load(zlib.decompress(GOOD)), **replaced}))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no change",
        GOOD[:-9],
        zlib.compress(b"\0" * 1_000_000),
        zlib.compress(save({})),
        repacked(weights=np.zeros((1, 9), np.uint8)),
        repacked(**{"weights.scales": np.zeros(1, np.float64)}),
        repacked(**{"squares.scales": np.zeros((1, 1), np.float32)}),
        repacked(extra=np.zeros(1, np.uint8)),
        repacked(**{"exact/batches": np.array(1.0)}),
        changes.encode(BEFORE, BEFORE, moments=False),
    ],
    ids=["empty", "text", "cut", "long", "nothing", "size", "dtype", "shape", "extra", "counter", "no moments"],
)
def test_a_damaged_change_is_refused_before_it_is_decoded(damaged: bytes) -> None:
    with pytest.raises(UpdateError, match="a change of weights"):
        changes.decode(damaged, BEFORE, moments=True)


def test_a_bomb_is_unpacked_no_further_than_a_change_can_reach() -> None:
    bomb = zlib.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(UpdateError, match="a change of weights"):
        changes.decode(bomb, BEFORE, moments=True)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_change_to_numbers_that_are_not_finite_gives_some_that_update_validation_refuses() -> None:
    after = state(2.0, 1.0, 14) | {"w": np.array([[1.0, np.inf], [1.0, 1.0]], np.float32)}
    assert np.isnan(changed(BEFORE, after, moments=True)["w"]).all()
