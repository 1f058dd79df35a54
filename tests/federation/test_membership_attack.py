"""Attacks on networks of which it is known what they have memorised."""

import numpy as np
import pytest
import torch

from medisync import notebook
from medisync.config import TrainingConfig
from medisync.federation import membership_attack
from medisync.model.device import select_device
from medisync.model.resnet import build_resnet18
from medisync.model.weights import State
from medisync.schemas import MembershipAttack, MembershipRecord
from medisync.training.dataset import HospitalData, ImageSet
from medisync.training.local import RoundInstructions, train_locally

EAST, WEST = "AIIMS Delhi", "NIMHANS Bengaluru"

CONFIG = notebook.configuration(
    {
        "IMAGE_SIZE": 32,
        "IMAGE_SIZE_SCHEDULE": "constant",
        "STEPS_PER_EPOCH": 0,
        "BATCH_SIZE": 20,
        "LOCAL_EPOCHS": 25,
        "MIXUP": 0,
        "AUGMENT": False,
        "WEIGHT_DECAY": 0,
        "DEVICE": "cpu",
    }
).training


def noise(count: int, seed: int) -> ImageSet:
    """Noise with random labels: there is nothing to learn but the images themselves."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 32, 32)).astype(np.uint8)
    return ImageSet(pixels, generator.integers(0, 4, count), 1000 * seed + np.arange(count))


def hospital(seed: int) -> HospitalData:
    return {"train": noise(40, seed), "val": noise(4, seed + 50), "test": noise(160, seed + 90)}


HOSPITALS = {EAST: hospital(1), WEST: hospital(2)}


def train(data: ImageSet, config: TrainingConfig = CONFIG) -> State:
    return train_locally(
        build_resnet18(seed=0).state_dict(),
        data,
        RoundInstructions(config, 1e-3),
        generator=torch.Generator().manual_seed(0),
        device=select_device("cpu"),
    ).state


@pytest.fixture(scope="module")
def overfitted() -> State:
    """A network that knows the 40 training images of EAST by heart."""
    return train(HOSPITALS[EAST]["train"])


@pytest.fixture(scope="module")
def references() -> dict[str, State]:
    """Networks of which each has seen one hospital's images twice."""
    config = CONFIG.model_copy(update={"local_epochs": 2})
    return {name: train(data["train"], config) for name, data in HOSPITALS.items()}


@pytest.fixture(scope="module")
def reported() -> list[tuple[str, int]]:
    return []


@pytest.fixture(scope="module")
def record(overfitted: State, references: dict[str, State], reported: list[tuple[str, int]]) -> MembershipRecord:
    states = dict.fromkeys(HOSPITALS, overfitted)
    return membership_attack.attack(
        HOSPITALS, states, references, CONFIG, lambda name, count: reported.append((name, count))
    )


def at(record: MembershipRecord, hospital: str | None) -> list[MembershipAttack]:
    return [each for each in record.attacks if each.hospital == hospital]


def test_a_network_that_memorised_its_images_is_found_out(record: MembershipRecord) -> None:
    found = at(record, EAST)
    assert [(each.attack, each.level) for each in found] == [
        (kind, level) for kind in ("loss", "margin", "reference") for level in ("image", "group")
    ]
    for each in found:
        assert each.auc > 0.9
        assert each.interval is not None
        assert each.interval.low > 0.8
        assert (each.members, each.non_members) == (40, 160)


def test_images_that_the_network_never_saw_are_not_told_apart(record: MembershipRecord) -> None:
    assert len(at(record, WEST)) == 6
    for each in at(record, WEST):
        assert each.interval is not None
        assert each.interval.low <= 0.5 <= each.interval.high


def test_all_hospitals_together_are_between_the_two(record: MembershipRecord) -> None:
    for together, east, west in zip(at(record, None), at(record, EAST), at(record, WEST), strict=True):
        assert west.auc < together.auc < east.auc
        assert together.members == 80


def test_references_are_the_other_hospitals_own_models(record: MembershipRecord) -> None:
    assert record.references == {EAST: [WEST], WEST: [EAST]}


def test_every_image_of_every_model_is_reported(
    record: MembershipRecord, references: dict[str, State], reported: list[tuple[str, int]]
) -> None:
    assert record.attacks
    assert {name for name, _ in reported} == {EAST, WEST}
    assert sum(count for _, count in reported) == membership_attack.images_to_predict(HOSPITALS, references) == 800


def test_without_references_the_models_own_outputs_are_left(overfitted: State) -> None:
    found = membership_attack.attack({EAST: HOSPITALS[EAST]}, {EAST: overfitted}, {}, CONFIG)
    assert {each.attack for each in found.attacks} == {"loss", "margin"}
    assert found.references == {}


def test_a_hospital_without_test_images_is_named(overfitted: State) -> None:
    hospitals = {**HOSPITALS, WEST: {**HOSPITALS[WEST], "test": noise(0, 5)}}
    found = membership_attack.attack(hospitals, dict.fromkeys(hospitals, overfitted), {}, CONFIG)
    assert found.not_attacked == {WEST: membership_attack.WITHOUT_IMAGES}
    assert at(found, WEST) == []
    assert "AIIMS" not in membership_attack.describe(found)
    assert f"not attacked: {WEST}: there are no training images" in membership_attack.describe(found)
