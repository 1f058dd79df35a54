"""The plan of the rounds, computed by hand."""

from typing import Any

import recipes

from medisync.federation.messages import Participants
from medisync.federation.plan import FederationPlan

PARTICIPANTS = Participants({2: "North"})


def plan(training: dict[str, Any] | None = None, **federation: Any) -> FederationPlan:
    return FederationPlan(recipes.training(**(training or {})), recipes.federation(**federation))


def test_every_second_round_and_the_last_are_validated() -> None:
    planned = plan(rounds=5, validate_every=2)
    assert [planned.plan_round(number, PARTICIPANTS).validates for number in range(1, 6)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_the_learning_rate_and_image_size_follow_their_schedules() -> None:
    # linear: 4/4 and 1/4 of 0.1 in rounds 1 and 4; progressive: 2/7 of 224 becomes 64, all of it in the last fifth
    training = {"learning_rate": 0.1, "learning_rate_schedule": "linear", "image_size_schedule": "progressive"}
    first, last = (plan(training, rounds=5).plan_round(number, PARTICIPANTS).instructions for number in (1, 5))
    assert (first.learning_rate, first.image_size) == (0.1, 64)
    assert (round(last.learning_rate, 12), last.image_size) == (0.02, 224)


def test_weak_labels_take_part_after_three_tenths_of_the_rounds_if_they_have_a_weight() -> None:
    def rounds_with(training: dict[str, Any]) -> list[int]:
        planned = plan(training, rounds=10)
        return [k for k in range(1, 11) if planned.plan_round(k, PARTICIPANTS).instructions.weak_labels]

    assert rounds_with({"mirrored_halves": 0.5}) == [4, 5, 6, 7, 8, 9, 10]
    assert rounds_with({"drawn_lesions": 0.5}) == [4, 5, 6, 7, 8, 9, 10]
    assert rounds_with({}) == []


def test_rounds_sample_with_seeds_of_their_own() -> None:
    planned = plan(rounds=2)
    one, two = (planned.plan_round(number, PARTICIPANTS).sampling_seed for number in (1, 2))
    assert one != two
    assert one == planned.plan_round(1, PARTICIPANTS).sampling_seed


def test_compact_hands_second_moments_on_in_the_first_sixteen_rounds_and_then_in_every_fourth() -> None:
    def rounds_of(planned: FederationPlan) -> list[int]:
        return [planned.plan_round(number, PARTICIPANTS).moment_rounds for number in range(15, 25)]

    shared, compact = {"adam_moments": "shared"}, plan({"adam_moments": "shared"}, rounds=30, transport="compact")
    assert rounds_of(compact) == [1, 1, 0, 0, 0, 4, 0, 0, 0, 4]
    assert not compact.plan_round(17, PARTICIPANTS).instructions.hand_on_moments
    assert rounds_of(plan(shared, rounds=30, transport="float16")) == [1] * 10
    assert rounds_of(plan({"adam_moments": "fresh"}, rounds=30, transport="compact")) == [0] * 10


def test_patience_ends_only_after_a_validated_round_with_images_of_full_size() -> None:
    constant, growing = plan(rounds=10, patience=2, validate_every=2), {"image_size_schedule": "progressive"}
    assert [constant.may_stop_early(number, best_round=2) for number in (3, 4, 5, 6)] == [False, True, False, True]
    assert not plan(growing, rounds=10, patience=2).may_stop_early(8, best_round=2)  # in four fifths of full size
    assert plan(growing, rounds=10, patience=2).may_stop_early(9, best_round=2)
