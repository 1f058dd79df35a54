"""The broadcast: hospitals and server have the same arrays, and rounding holds nothing back for long."""

import numpy as np
import pytest
import torch
from fakes import plan_of
from flwr.app import ArrayRecord

from medisync.federation import changes
from medisync.federation.broadcast import Broadcast, announce
from medisync.federation.messages import digest, to_values
from medisync.model import adam


def record(weights: list[float], second: float = 0.0, steps: int = 0) -> ArrayRecord:
    moments = {adam.FIRST + "w": torch.zeros(len(weights)), adam.SECOND + "w": torch.full((len(weights),), second)}
    return ArrayRecord({"w": torch.tensor(weights), **moments, adam.STEPS: torch.tensor(steps)})


def test_the_global_arrays_are_what_hospitals_make_of_the_change() -> None:
    before = Broadcast(record([0.0, 0.0]))
    after = announce(before, record([0.7, 0.33]), plan_of(0))
    assert after.change is not None
    made = changes.decode(after.change.block, to_values(before.arrays), moments=False, momentum=True)
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
        model = announce(model, record((start + update).tolist()), plan_of(0))
        seen.append(float(model.arrays["w"].numpy()[1]))
        assert np.abs(model.arrays["w"].numpy() - meant).max() <= 0.05 + 1e-6
    assert seen[0] == 0.0
    assert seen[-1] == pytest.approx(0.3, abs=0.05)
    assert model.arrays["w"].numpy() + model.errors["w"] == pytest.approx(meant, rel=1e-5)


def test_second_moments_catch_up_on_the_rounds_in_which_they_were_not_handed_on() -> None:
    """A round of 100 steps with squares of 1, four times: 1 - 0.999^400 = 0.330 of 1 after 400 steps, up to a 16th."""
    before = Broadcast(record([0.0], 0.0, 1000))
    after = announce(before, record([0.1], 1 - 0.999**100, 1100), plan_of(4))
    assert after.arrays[adam.STEPS].numpy() == 1400
    assert after.arrays[adam.SECOND + "w"].numpy()[0] == pytest.approx(0.330, rel=1 / 16)
    exact = after.arrays[adam.SECOND + "w"].numpy() + after.errors[adam.SECOND + "w"]
    assert exact[0] == pytest.approx(1 - 0.999**400, rel=1e-4)


def test_second_moments_stay_in_a_round_in_which_they_are_not_handed_on() -> None:
    before = Broadcast(record([0.0], 0.5, 1000), errors={adam.SECOND + "w": np.array([0.01], np.float32)})
    after = announce(before, record([0.1], 0.5, 1004), plan_of(0))
    assert after.arrays[adam.SECOND + "w"].numpy().tolist() == [0.5]
    assert after.errors[adam.SECOND + "w"].tolist() == pytest.approx([0.01])
    assert after.arrays[adam.STEPS].numpy() == 1000


def test_first_moments_follow_from_the_mean_step() -> None:
    """Two steps of -0.1 * m / sqrt(v) moved the weight by -0.06, so that m / sqrt(v) was 0.3; v is 4: m is 0.6."""
    before = Broadcast(record([1.0], 4.0, 100_000))
    after = announce(before, record([0.94], 4.0, 100_002), plan_of(0))
    assert after.arrays[adam.FIRST + "w"].numpy()[0] == pytest.approx(0.6, rel=1e-5)


def test_weight_decay_is_no_part_of_first_moments() -> None:
    """Of a step of -0.1 * (m / sqrt(v) + 0.5 * w), 0.05 was decay of the weight 1, and 0.02 Adam's: m is 0.2 * 2."""
    moments = {adam.FIRST + "w": torch.zeros(1, 1), adam.SECOND + "w": torch.full((1, 1), 4.0)}
    before = ArrayRecord({"w": torch.ones(1, 1), **moments, adam.STEPS: torch.tensor(100_000)})
    meant = ArrayRecord({"w": torch.full((1, 1), 0.93), **moments, adam.STEPS: torch.tensor(100_001)})
    after = announce(Broadcast(before), meant, plan_of(0, weight_decay=0.5))
    assert after.arrays[adam.FIRST + "w"].numpy()[0, 0] == pytest.approx(0.4, rel=1e-4)


def test_first_moments_are_never_larger_than_any_gradients_would_make_them() -> None:
    after = announce(Broadcast(record([1.0], 4.0, 1000)), record([-99.0], 4.0, 1001), plan_of(0))
    state = {key: torch.from_numpy(value) for key, value in to_values(after.arrays).items()}
    assert adam.find_moment_problem(state) == ""
    assert float(state[adam.FIRST + "w"]) == pytest.approx(0.95 * adam.BOUND * 2)
