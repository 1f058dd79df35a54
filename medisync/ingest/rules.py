"""The rules that say which sequence an image is of, read from a file that a person can change."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from medisync.config import Section
from medisync.workspace import toml_files

DEFAULT = Path(__file__).parent / "series_rules.toml"
"""The rules that come with the program; the file explains itself."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return pattern


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"expected [least, most], got [{limits[0]:g}, {limits[1]:g}]")
    return limits


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
Range = Annotated[tuple[float, float], AfterValidator(_in_order)]
"""Least and largest milliseconds."""


@dataclass(frozen=True)
class Traits:
    """What an image's header says of its sequence. Descriptions may name a patient, so they are compared and never shown."""

    text: str = field(repr=False)
    """The descriptions, one a line."""
    image_type: frozenset[str] = field(repr=False)
    body_part: str = field(repr=False)
    contrast_agent: str = field(repr=False)
    echo_time: float | None
    repetition_time: float | None
    inversion_time: float | None


class Rule(Section):
    """Conditions, all of which must hold."""

    text: Pattern | None = None
    without_text: Pattern | None = None
    image_type: tuple[str, ...] = ()
    body_part: Pattern | None = None
    contrast: bool | None = None
    echo_time: Range | None = None
    repetition_time: Range | None = None
    inversion_time: Range | None = None

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not self.model_fields_set - {"name", "reason"}:
            raise ValueError("has no condition, so that it would fit every image")
        return self

    def fits(self, traits: Traits, has_contrast: bool) -> bool:
        return all(self._conditions(traits, has_contrast))

    def _conditions(self, traits: Traits, has_contrast: bool) -> Iterator[bool]:
        yield self.text is None or _occurs(self.text, traits.text)
        yield self.without_text is None or not _occurs(self.without_text, traits.text)
        yield not self.image_type or not traits.image_type.isdisjoint(map(str.upper, self.image_type))
        yield self.body_part is None or _occurs(self.body_part, traits.body_part)
        yield self.contrast in (None, has_contrast)
        yield _within(traits.echo_time, self.echo_time)
        yield _within(traits.repetition_time, self.repetition_time)
        yield _within(traits.inversion_time, self.inversion_time)


class Exclusion(Rule):
    reason: Annotated[str, Field(min_length=1, max_length=60)]


class Sequence(Rule):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]


class Rules(Section):
    contrast_text: Pattern
    no_contrast_text: Pattern
    no_contrast_agent: Pattern
    exclude: tuple[Exclusion, ...] = ()
    sequence: Annotated[tuple[Sequence, ...], Field(min_length=1)]

    def why_excluded(self, traits: Traits) -> str:
        """Returns the reason of the first exclusion that fits; empty if there is none."""
        has_contrast = self._has_contrast(traits)
        return next((each.reason for each in self.exclude if each.fits(traits, has_contrast)), "")

    def sequence_of(self, traits: Traits) -> str:
        """Returns the name of the first sequence that fits; empty if there is none. Exclusions are not looked at."""
        has_contrast = self._has_contrast(traits)
        return next((each.name for each in self.sequence if each.fits(traits, has_contrast)), "")

    def _has_contrast(self, traits: Traits) -> bool:
        """The text decides where it says anything: the field often holds what was planned for the examination."""
        if _occurs(self.no_contrast_text, traits.text):
            return False
        agent = traits.contrast_agent.strip()
        return _occurs(self.contrast_text, traits.text) or (bool(agent) and not _occurs(self.no_contrast_agent, agent))


def _occurs(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _within(value: float | None, limits: tuple[float, float] | None) -> bool:
    return limits is None or (value is not None and limits[0] <= value <= limits[1])


def read(file: Path = DEFAULT) -> Rules:
    """Returns the rules in a TOML file. Raises ConfigError that names the file, the field and what is wrong."""
    return toml_files.read(Rules, file, f"expected rules such as those of {DEFAULT}")
