"""policy.toml: the rules of a hospital that its own node enforces, whatever the server asks for.

The defaults are the rules of a hospital without a policy.toml, and those of the file that `medisync federation init` writes.
"""

import re
from datetime import time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, model_validator

from medisync.config import ImageSize, PositiveInt, Section, Strategy

FILE = "policy.toml"

Recipe = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, strict=True)]
Epsilon = Annotated[float, Field(gt=0)]


def _require_hours(text: str) -> str:
    parse_hours(text)
    return text


Hours = Annotated[str, AfterValidator(_require_hours)]


class RecipeRules(Section):
    allowed: tuple[Recipe, ...] = ()
    """SHA-256 of the training settings that may run; empty for any settings within the limits below."""
    strategies: tuple[Strategy, ...] = ("fedavg",)
    most_local_epochs: Annotated[float, Field(gt=0, le=100)] = 1.0
    smallest_image_size: ImageSize = 32
    largest_image_size: ImageSize = 256

    @model_validator(mode="after")
    def _has_a_range(self) -> "RecipeRules":
        if self.smallest_image_size > self.largest_image_size:
            raise ValueError(
                f"smallest_image_size {self.smallest_image_size} is above largest_image_size {self.largest_image_size}"
            )
        return self


class Limits(Section):
    rounds_per_run: PositiveInt = 600
    rounds_per_week: PositiveInt = 1200
    """Trainings begun in seven days, whichever runs they belong to, and whether they were finished or not."""
    evaluations_per_run: PositiveInt = 700
    """Answered evaluations and descriptions of the training images."""
    evaluations_per_week: PositiveInt = 1400
    """The same in seven days, whichever runs they belong to: a server can give a run another name."""
    hours: Annotated[tuple[Hours, ...], Field(min_length=1)] = ("00:00-24:00",)
    """Spans of the day, by the hospital's clock, in which it trains."""


class ParticipationRules(Section):
    fewest_images: Count = 100
    fewest_patients: Count = 10
    """Not applied where no image's patient is known."""
    approval: StrictBool = True
    """Whether each run waits until a person at the hospital has approved it."""


class ReleaseRules(Section):
    smallest_count: PositiveInt = 10
    """Counts from 1 to one less do not leave; 1 lets all counts leave."""
    evaluation_totals: StrictBool = True
    feature_statistics: StrictBool = True
    batchnorm_statistics: StrictBool = False


class EpsilonRules(Section):
    """Privacy budget. A run that states no epsilon is beyond every limit; without a limit it may run."""

    per_run: Epsilon | None = None
    in_total: Epsilon | None = None


class Policy(Section):
    recipe: RecipeRules = RecipeRules()
    limits: Limits = Limits()
    participation: ParticipationRules = ParticipationRules()
    release: ReleaseRules = ReleaseRules()
    epsilon: EpsilonRules = EpsilonRules()


def beside(settings_file: Path) -> Path:
    """Returns the path of the policy that belongs to a hospital.toml."""
    return settings_file.parent / FILE


def parse_hours(text: str) -> tuple[time, time]:
    """Returns begin and end of a span such as 19:00-07:00; it may pass midnight, and 24:00 is midnight."""
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24:00))", text)
    if not found:
        raise ValueError(f"expected a span of the day such as 19:00-07:00, got {text!r}")
    begin = time(int(found[1]), int(found[2]))
    return begin, time(0) if found[5] else time(int(found[3]), int(found[4]))


def is_within(moment: time, hours: str) -> bool:
    """Returns whether a moment lies in the span, its end excluded; a span that ends where it begins is the whole day."""
    begin, end = parse_hours(hours)
    return begin <= moment < end if begin < end else moment >= begin or moment < end


TEMPLATE = """\
# What this hospital allows. Its own node enforces it before any image is touched; the server can neither read nor change
# this file. A change applies from the next message on. The values below are the defaults; a mistake stops the node.

[recipe]
# SHA-256 of the training settings that may run, as `medisync federation approve` shows them; [] for any within the limits.
allowed = []
# The server aggregates, so a hospital has to take its word for the strategy.
strategies = ["fedavg"]
most_local_epochs = 1.0
smallest_image_size = 32
largest_image_size = 256

[limits]
rounds_per_run = 600
# Trainings begun in the last seven days, in all runs together.
rounds_per_week = 1200
# Every evaluation says something about the images: docs/privacy.md.
evaluations_per_run = 700
evaluations_per_week = 1400
# When training may run, by this machine's clock; ["19:00-07:00"] for the night.
hours = ["00:00-24:00"]

[participation]
fewest_images = 100
# Counted where patients are known (patients.csv); without any known patient the rule does not apply.
fewest_patients = 10
# true: a run waits until a person here has run `medisync federation approve RUN`.
approval = true

[release]
# Counts from 1 to 9 do not leave: the server is told "fewer than 10". A split in which some class has so few images is not
# evaluated, because a count left out of a sum would falsify the sum.
smallest_count = 10
# Confusion matrices and histograms at the end of a run. Their cells may hold single images; false keeps all of them here.
evaluation_totals = true
# Sums of the training images' features, per class, for the out-of-distribution warning.
feature_statistics = true
# Means and variances of layers (NORMALISATION "averaged" or "local").
batchnorm_statistics = false

[epsilon]
# Privacy budget (differential privacy). Commented out: runs without a bound may take place, and there are no others yet.
# With a limit, a run that states no epsilon, or a larger one, is refused; what runs state adds up in this hospital's ledger.
# per_run = 4.0
# in_total = 8.0
"""
"""The file that a new federation's hospitals are given."""
