"""Splits audited images into training, validation and test sets, stratified by hospital and class.

A group (copies of a slice, slices of a patient) goes to one split, the same one at every hospital.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from medisync.config import Hospital, SplitConfig
from medisync.errors import DataError
from medisync.imaging.file_tree import HIDDEN
from medisync.schemas import (
    LABELS,
    SPLITS,
    AuditedImage,
    AuditRecord,
    DatasetStats,
    HospitalAudit,
    HospitalSplit,
    ImageStatus,
    Label,
    Split,
    SplitImage,
    SplitRecord,
)

Stratum = tuple[str, Label]
"""A class at a hospital."""

RESERVED: tuple[Split, ...] = ("test", "val")
"""Splits that get one group of each stratum before the others are distributed, in this order."""


@dataclass(frozen=True)
class Group:
    """Related images, of one hospital or several."""

    images: tuple[AuditedImage, ...]
    counts: Counter[Stratum]

    @property
    def stratum(self) -> Stratum:
        """The stratum of most of the images."""
        return max(self.counts, key=lambda stratum: (self.counts[stratum], stratum))


def split(record: AuditRecord, settings: SplitConfig, hospitals: Sequence[Hospital]) -> SplitRecord:
    """Assigns every usable image to one split of its hospital, or to none if another hospital owns its group.

    The ratios are fractions of each hospital's images of each class, met as closely as whole groups allow. A class with
    one group goes to training, with two to training and test; both are noted. Raises DataError if a hospital is left
    without training images.
    """
    generator = np.random.default_rng(settings.seed)
    candidates = _groups([image for image in record.images if image.status == "ok"])
    groups, notes = _settle_ownership(candidates, settings, generator)
    assigned = _assign(groups, settings, generator)
    names = [hospital.name for hospital in hospitals]
    result = {name: _hospital_split(name, assigned) for name in names}
    if idle := [name for name in names if not result[name].train]:
        raise DataError(
            f"{', '.join(idle)}: no training image after the split; other hospitals own all groups of its images"
        )
    return SplitRecord(
        seed=settings.seed,
        val_ratio=settings.val_ratio,
        test_ratio=settings.test_ratio,
        cross_hospital_duplicates=settings.cross_hospital_duplicates,
        hospitals=result,
        notes=[*notes, *_scarcity_notes(groups)],
    )


def _groups(images: Sequence[AuditedImage]) -> list[Group]:
    members: dict[int | None, list[AuditedImage]] = defaultdict(list)
    for image in images:
        members[image.group].append(image)
    return [_group(images) for images in members.values()]


def _group(images: Sequence[AuditedImage]) -> Group:
    counts = Counter((image.hospital, image.label) for image in images if image.label is not None)
    return Group(tuple(images), counts)


def _settle_ownership(
    groups: list[Group], settings: SplitConfig, generator: np.random.Generator
) -> tuple[list[Group], list[str]]:
    """Returns the groups that are split, and notes on those that several hospitals share."""
    shared = Counter(image.hospital for group in groups if _is_shared(group) for image in group.images)
    if settings.cross_hospital_duplicates != "one-owner":
        return groups, [
            f"{n} images of {name} are in groups that another hospital also has" for name, n in shared.items()
        ]
    owned = _give_to_one_owner(groups, generator)
    after = Counter(image.hospital for group in owned for image in group.images)
    before = Counter(image.hospital for group in groups for image in group.images)
    return owned, [
        f"{number - after[name]} of {number} images of {name} are left to the hospital that owns their group"
        for name, number in before.items()
        if after[name] < number
    ]


def _is_shared(group: Group) -> bool:
    return len({hospital for hospital, _ in group.counts}) > 1


def _give_to_one_owner(groups: list[Group], generator: np.random.Generator) -> list[Group]:
    """Gives each shared group to whichever of its hospitals has the fewest images of the group's class so far."""
    owned = [group for group in groups if not _is_shared(group)]
    images = Counter[Stratum]()
    for group in owned:
        images.update(group.counts)
    for group in _largest_first([group for group in groups if _is_shared(group)], generator):
        label = group.stratum[1]
        candidates = sorted({hospital for hospital, _ in group.counts})
        owner = min(candidates, key=lambda hospital: images[hospital, label])
        owned.append(_group([image for image in group.images if image.hospital == owner]))
        images.update(owned[-1].counts)
    return owned


def _largest_first(groups: list[Group], generator: np.random.Generator) -> list[Group]:
    """Sorts groups by size, at random among equals: small groups, assigned last, even out what large ones left."""
    shuffled = [groups[index] for index in generator.permutation(len(groups))]
    return sorted(shuffled, key=lambda group: -len(group.images))


def _assign(groups: list[Group], settings: SplitConfig, generator: np.random.Generator) -> dict[Split, list[Group]]:
    """Assigns whole groups to splits: first those that are reserved, then each of the rest where it balances best."""
    ordered = _largest_first(groups, generator)
    reserved = _reserved(ordered)
    targets = _targets(ordered, settings)
    filled = Counter[tuple[Split, Stratum]]()
    assigned: dict[Split, list[Group]] = {name: [] for name in SPLITS}
    for index in [*reserved, *(index for index in range(len(ordered)) if index not in reserved)]:
        group = ordered[index]
        balanced: Split = min(SPLITS, key=partial(_imbalance, group, filled, targets))
        name = reserved.get(index, balanced)
        assigned[name].append(group)
        filled.update({(name, stratum): count for stratum, count in group.counts.items()})
    return assigned


def _reserved(ordered: Sequence[Group]) -> dict[int, Split]:
    """Reserves the smallest group of each stratum for test and the next for validation, if one is left for training."""
    members: dict[Stratum, list[int]] = defaultdict(list)
    for index, group in enumerate(ordered):
        members[group.stratum].append(index)
    pairs = (zip(reversed(indices[1:]), RESERVED, strict=False) for indices in members.values())
    return {index: name for chosen in pairs for index, name in chosen}


def _targets(groups: Sequence[Group], settings: SplitConfig) -> dict[tuple[Split, Stratum], float]:
    """Returns how many images of each stratum each split should have."""
    totals = sum((group.counts for group in groups), Counter[Stratum]())
    train_ratio = 1 - settings.val_ratio - settings.test_ratio
    ratios: Mapping[Split, float] = {"train": train_ratio, "val": settings.val_ratio, "test": settings.test_ratio}
    return {(name, stratum): ratio * count for name, ratio in ratios.items() for stratum, count in totals.items()}


def _imbalance(
    group: Group, filled: Counter[tuple[Split, Stratum]], targets: Mapping[tuple[Split, Stratum], float], name: Split
) -> float:
    """Returns how much the chi-squared distance from the targets grows if `group` goes to split `name`."""
    return sum(
        count * (2 * (filled[name, stratum] - targets[name, stratum]) + count) / targets[name, stratum]
        for stratum, count in group.counts.items()
    )


def _hospital_split(hospital: str, assigned: Mapping[Split, Sequence[Group]]) -> HospitalSplit:
    parts = {name: _split_images(hospital, groups) for name, groups in assigned.items()}
    return HospitalSplit(train=parts["train"], val=parts["val"], test=parts["test"])


def _split_images(hospital: str, groups: Sequence[Group]) -> list[SplitImage]:
    images = [image for group in groups for image in group.images if image.hospital == hospital]
    return [
        SplitImage(path=image.path, label=image.label, group=image.group, sha256=image.sha256)
        for image in sorted(images, key=lambda image: image.path)
        if image.label is not None and image.group is not None
    ]


def _scarcity_notes(groups: Sequence[Group]) -> list[str]:
    counted = Counter(stratum for group in groups for stratum in group.counts)
    return [
        f"{hospital} has {count} group{'s' * (count > 1)} of {label}: too few for train, val and test"
        for (hospital, label), count in sorted(counted.items())
        if count < len(SPLITS)
    ]


def require_no_leak(record: SplitRecord) -> None:
    """Raises DataError if a group, or the bytes of an image, occur in two splits, at the same hospital or not.

    Where shared groups have one owner, also if a group occurs at two hospitals.
    """
    groups: dict[int, set[str]] = defaultdict(set)
    digests: dict[str, set[str]] = defaultdict(set)
    owners: dict[int, set[str]] = defaultdict(set)
    for hospital, name, image in _all_images(record):
        groups[image.group].add(name)
        digests[image.sha256].add(name)
        owners[image.group].add(hospital)
    _refuse_shared("group", groups, "splits")
    _refuse_shared("image with SHA-256", digests, "splits")
    if record.cross_hospital_duplicates == "one-owner":
        _refuse_shared("group", owners, "hospitals")


def _all_images(record: SplitRecord) -> Iterator[tuple[str, Split, SplitImage]]:
    for hospital, parts in record.hospitals.items():
        for name in SPLITS:
            for image in getattr(parts, name):
                yield hospital, name, image


def _refuse_shared(what: str, occurrences: Mapping[Any, set[str]], kind: str) -> None:
    for key, names in occurrences.items():
        if len(names) > 1:
            raise DataError(f"leak: {what} {key} is in the {kind} {' and '.join(sorted(names))}; it may be in only one")


def dataset_stats(record: SplitRecord, audited: AuditRecord, hospitals: Sequence[Hospital]) -> dict[str, DatasetStats]:
    """Counts, per hospital, the images that the run uses and those that the audit found usable."""
    return {hospital.name: _hospital_stats(hospital, record, audited) for hospital in hospitals}


def _hospital_stats(hospital: Hospital, record: SplitRecord, audited: AuditRecord) -> DatasetStats:
    parts = {name: _per_label(getattr(record.hospitals[hospital.name], name)) for name in SPLITS}
    used = {label: sum(counts[label] for counts in parts.values()) for label in LABELS}
    return DatasetStats(
        total=sum(used.values()),
        class_distribution=used,
        location=hospital.location,
        specialty=hospital.specialty,
        found=audited.hospitals[hospital.name].class_distribution,
        splits=parts,
        with_patient=audited.hospitals[hospital.name].with_patient,
        left_out=_left_out(audited.hospitals[hospital.name]),
    )


def _left_out(found: HospitalAudit) -> dict[ImageStatus | Literal["skipped"], int]:
    counts: dict[ImageStatus | Literal["skipped"], int] = {
        "unresolved": found.unresolved,
        "unreadable": found.unreadable,
        "quarantined": found.quarantined,
        "skipped": sum(number for reason, number in found.skipped.items() if reason != HIDDEN),
    }
    return {status: number for status, number in counts.items() if number}


def _per_label(images: Sequence[SplitImage]) -> dict[Label, int]:
    counted = Counter(image.label for image in images)
    return {label: counted[label] for label in LABELS}
