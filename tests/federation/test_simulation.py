"""The federation in one process: the same bits twice, any number of hospitals, no trace left in the process."""

import random

import torch
from fakes import hospital, images, simulate


def test_a_federation_is_the_same_twice_and_records_its_history() -> None:
    hospitals = {"North": hospital(0), "South": hospital(10, classes=3)}
    first, second = simulate(hospitals), simulate(hospitals)
    assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)
    assert [entry.epoch for entry in first.history] == [1, 2]
    assert first.history[0].hospitals.keys() == {"North", "South"}
    assert first.history[0].hospitals["North"].train_images == 16
    assert (first.test.n, first.hospitals["South"].n) == (16, 8)
    assert first.state["bn1.num_batches_tracked"].dtype == torch.int64


def test_a_fourth_hospital_takes_part() -> None:
    four = {name: hospital(k) for k, name in enumerate(("East", "North", "South", "West"))}
    outcome = simulate(four, 1)
    assert outcome.hospitals.keys() == four.keys()
    assert outcome.test.n == 4 * 8


def test_a_hospital_without_validation_or_test_images_takes_part() -> None:
    little = {**hospital(5), "val": images(0, 4, 0), "test": images(0, 4, 0)}
    outcome = simulate({"North": hospital(0), "Little": little}, 1)
    assert outcome.history[0].hospitals["Little"].val_accuracy is None
    assert outcome.hospitals["Little"].accuracy is None
    assert outcome.test.n == 8


def test_a_hospital_that_fails_is_named_and_the_others_continue() -> None:
    broken = {"train": images(0, 4, 0), "val": images(0, 4, 0), "test": images(0, 4, 0)}
    outcome = simulate({"North": hospital(0), "South": hospital(1), "Broken": broken}, 1)
    (refusal,) = outcome.history[0].refused
    assert refusal.hospital == "Broken"


def test_the_random_state_of_the_process_is_left_alone() -> None:
    random.seed(5)
    torch.manual_seed(5)
    expected = (random.Random(5).random(), torch.Generator().manual_seed(5).get_state())
    simulate({"North": hospital(0), "South": hospital(1)}, 1)
    assert random.random() == expected[0]
    assert torch.equal(torch.get_rng_state(), expected[1])
