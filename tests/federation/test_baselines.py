"""Baselines of the federation, on hospitals small enough to train in seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medisync import notebook
from medisync.config import Configuration
from medisync.federation import baselines, simulation
from medisync.federation.checkpoint import CheckpointFolder
from medisync.federation.server_app import Outcome
from medisync.training.dataset import HospitalData, ImageSet

EAST, WEST = "AIIMS Delhi", "NIMHANS Bengaluru"
MEMBERS = {
    "local": [("local", (EAST,)), ("local", (WEST,))],
    "pooled": [("pooled", (EAST, WEST))],
    "leave-one-out": [("leave-one-out", (WEST,)), ("leave-one-out", (EAST,))],
}


def images(count: int, seed: int, first_group: int) -> ImageSet:
    """Dark or bright noise: classes 0 and 1."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = generator.integers(0, 60, (count, 32, 32)) + 150 * labels[:, None, None]
    return ImageSet(pixels.astype(np.uint8), labels, first_group + np.arange(count))


def hospital(seed: int) -> HospitalData:
    return {
        "train": images(24, seed, 1000 * seed),
        "val": images(8, seed + 50, 1000 * seed + 100),
        "test": images(12, seed + 90, 1000 * seed + 200),
    }


HOSPITALS = {EAST: hospital(1), WEST: hospital(2)}


PARAMETERS = {"IMAGE_SIZE": 32, "ROUNDS": 2, "LEARNING_RATE": 1e-3, "DEVICE": "cpu"}


def configuration(*kinds: str) -> Configuration:
    return notebook.configuration({**PARAMETERS, "BASELINES": kinds})


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return simulation.simulate(HOSPITALS, configuration())


@pytest.mark.parametrize("kind", MEMBERS)
def test_each_kind_of_baseline_trains_at_the_right_hospitals(kind: str) -> None:
    assert baselines.members(HOSPITALS, [kind]) == MEMBERS[kind]  # type: ignore[list-item]


def test_the_pool_holds_every_image_of_every_split_once() -> None:
    pooled = baselines.pool(HOSPITALS)
    for split, count in (("train", 48), ("val", 16), ("test", 24)):
        assert len(pooled[split]) == count  # type: ignore[index]
        expected = {group for data in HOSPITALS.values() for group in data[split].groups}  # type: ignore[index]
        assert set(pooled[split].groups) == expected  # type: ignore[index]


def test_every_model_is_tested_at_every_hospital(outcome: Outcome, tmp_path: Path) -> None:
    settings, checkpoints = configuration("local", "pooled"), CheckpointFolder(tmp_path)
    record = baselines.compare(HOSPITALS, outcome, settings, checkpoints=checkpoints).record
    assert [(each.kind, each.trained_at) for each in record.models] == [
        ("federated", [EAST, WEST]),
        ("local", [EAST]),
        ("local", [WEST]),
        ("pooled", [EAST, WEST]),
    ]
    assert all(each.hospitals[name].n == 12 for each in record.models for name in HOSPITALS)
    assert record.models[0].test == outcome.test  # scored again, the same way
    for difference in (each for each in record.differences if each.hospital == baselines.ALL):
        other = next(
            each for each in record.models if (each.kind, each.trained_at) == (difference.kind, difference.trained_at)
        )
        expected = outcome.test.accuracy - other.test.accuracy  # type: ignore[operator]
        assert difference.difference == pytest.approx(expected)
        assert difference.low <= difference.difference <= difference.high


def test_a_model_uses_a_hospitals_own_statistics_where_it_was_trained_there(tmp_path: Path) -> None:
    settings = notebook.configuration({**PARAMETERS, "BASELINES": ["local", "leave-one-out"], "NORMALISATION": "local"})
    outcome = simulation.simulate(HOSPITALS, settings)
    comparison = baselines.compare(HOSPITALS, outcome, settings, checkpoints=CheckpointFolder(tmp_path))
    record = comparison.record
    assert record.models[0].test == outcome.test
    own = comparison.models[1].outcome
    assert own.statistics.keys() == {EAST}
    # what one hospital uses is all that there is to use elsewhere
    assert all(torch.equal(own.state_at(WEST)[key], tensor) for key, tensor in own.state_at(EAST).items())
    assert record.models[1].hospitals[EAST] == own.hospitals[EAST]


def test_without_baselines_only_the_federated_model_is_tested(outcome: Outcome, tmp_path: Path) -> None:
    record = baselines.compare(HOSPITALS, outcome, configuration(), checkpoints=CheckpointFolder(tmp_path)).record
    assert [each.kind for each in record.models] == ["federated"]
    assert record.differences == []


def test_a_member_alone_takes_one_round_from_validation_to_validation() -> None:
    parameters = {"ROUNDS": 20, "LOCAL_EPOCHS": 0.05, "VALIDATE_EVERY": 5, "PATIENCE": 10, "STRATEGY": "krum"}
    shared, fresh = (notebook.configuration({**parameters, "ADAM_MOMENTS": kind}) for kind in ("shared", "fresh"))
    alone = baselines.settings(shared, alone=True)
    assert (alone.federation.rounds, alone.training.local_epochs, alone.federation.patience) == (4, 0.25, 2)
    assert alone.federation.validate_every == 1
    for settings in (baselines.settings(shared, alone=False), baselines.settings(fresh, alone=True)):
        assert (settings.federation.rounds, settings.training.local_epochs) == (20, 0.05)
        assert settings.federation.strategy == "fedavg"
