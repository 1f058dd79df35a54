"""Selects the images of an export that the rules name a sequence for, and puts them together in stacks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from medisync.ingest.headers import Image, Rejected
from medisync.ingest.labels import SeriesFound, SeriesKey
from medisync.ingest.rules import Rules

EXCLUDED = "image that the rules exclude"


@dataclass(frozen=True)
class Stack:
    """The images of one sequence in one series; a file with several frames is a stack of its own."""

    series: SeriesKey = field(repr=False)
    sequence: str
    images: tuple[Image, ...] = field(repr=False)

    @property
    def patient(self) -> str:
        return self.images[0].patient


@dataclass(frozen=True)
class Selection:
    stacks: Sequence[Stack]
    series: Sequence[SeriesFound]
    """All series of the export, selected or not."""
    rejected: Mapping[PurePosixPath, Rejected]


def select(images: Sequence[Image], rules: Rules) -> Selection:
    """Sorts images into stacks, in the order in which they come."""
    rejected: dict[PurePosixPath, Rejected] = {}
    stacks: dict[tuple[SeriesKey, str, PurePosixPath | None], list[Image]] = defaultdict(list)
    instances: set[str] = set()
    for image in images:
        sequence, reason = _judge(image, rules)
        if not reason and image.instance in instances:
            reason = Rejected("file of an image that another file holds")
        if reason:
            rejected[image.path] = reason
            continue
        instances.add(image.instance)
        stacks[(image.study, image.series), sequence, image.path if image.frames > 1 else None].append(image)
    built = [Stack(series, sequence, tuple(group)) for (series, sequence, _), group in stacks.items()]
    return Selection(built, _series(images, {stack.series for stack in built}), rejected)


def _judge(image: Image, rules: Rules) -> tuple[str, Rejected | None]:
    if excluded := rules.why_excluded(image.traits):
        return "", Rejected(EXCLUDED, excluded)
    if sequence := rules.sequence_of(image.traits):
        return sequence, None
    return "", Rejected("image of no sequence in the rules")


def _series(images: Sequence[Image], selected: set[SeriesKey]) -> list[SeriesFound]:
    """Returns each series once for every patient and accession number that its images give."""
    found = {((image.study, image.series), image.accession, image.patient): None for image in images}
    return [SeriesFound(key, accession, patient, key in selected) for key, accession, patient in found]
