"""The broadcast: hospitals and server have the same arrays, and rounding holds nothing back for long."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from medisync.federation import changes
from medisync.federation.broadcast import Broadcast, announce
from medisync.federation.messages import digest, to_values
from medisync.model import adam


def record(weights: list[float], second: float = 0.0, steps: int = 0) -> ArrayRecord:
    state = {"w": torch.tensor(weights), adam.SECOND + "w": torch.full((len(weights),), second)}
    return ArrayRecord({**state, adam.STEPS: torch.tensor(steps)})


def test_the_global_arrays_are_what_hospitals_make_of_the_change() -> None:
    before = Broadcast(record([0.0, 0.0]))
    after = announce(before, record([0.7, 0.33]), 0)
    assert after.change is not None
    made = changes.decode(after.change.block, to_values(before.arrays), moments=False)
    assert np.array_equal(made["w"], after.arrays["w"].numpy())
    assert after.arrays["w"].numpy().tolist() == pytest.approx([0.7, 0.3])
    assert (after.change.base, after.change.name) == (digest(before.arrays), digest(after.arrays))


def test_what_rounding_holds_back_is_sent_later() -> None:
    """0.03 is less than half a step, 0.05, so that only every third or fourth round moves the second weight."""
    model, meant = Broadcast(record([0.0, 0.0])), np.zeros(2)
    seen = []
    for _ in range(10):
        start = model.arrays["w"].numpy()
        update = np.array([0.7, 0.03], np.float32)
        meant += update
        model = announce(model, record((start + update).tolist()), 0)
        seen.append(float(model.arrays["w"].numpy()[1]))
        assert np.abs(model.arrays["w"].numpy() - meant).max() <= 0.05 + 1e-6
    assert seen[0] == 0.0
    assert seen[-1] == pytest.approx(0.3, abs=0.05)
    assert model.arrays["w"].numpy() + model.errors["w"] == pytest.approx(meant, rel=1e-5)


def test_second_moments_catch_up_on_the_rounds_in_which_they_were_not_handed_on() -> None:
    """A round of 100 steps with squares of 1, four times: 1 - 0.999^400 = 0.330 of 1 after 400 steps, up to a 16th."""
    before = Broadcast(record([0.0], 0.0, 1000))
    after = announce(before, record([0.1], 1 - 0.999**100, 1100), 4)
    assert after.arrays[adam.STEPS].numpy() == 1400
    assert after.arrays[adam.SECOND + "w"].numpy()[0] == pytest.approx(0.330, rel=1 / 16)
    exact = after.arrays[adam.SECOND + "w"].numpy() + after.errors[adam.SECOND + "w"]
    assert exact[0] == pytest.approx(1 - 0.999**400, rel=1e-4)


def test_second_moments_stay_in_a_round_in_which_they_are_not_handed_on() -> None:
    before = Broadcast(record([0.0], 0.5, 1000), errors={adam.SECOND + "w": np.array([0.01], np.float32)})
    after = announce(before, record([0.1], 0.5, 1000), 0)
    assert after.arrays[adam.SECOND + "w"].numpy().tolist() == [0.5]
    assert after.errors[adam.SECOND + "w"].tolist() == pytest.approx([0.01])
    assert after.arrays[adam.STEPS].numpy() == 1000
