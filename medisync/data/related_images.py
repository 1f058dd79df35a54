"""Finds related images: copies of one slice, groups that must not be split, and one slice under several labels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from medisync.data import near_duplicates
from medisync.data.discovery import File
from medisync.data.fingerprints import Entry
from medisync.data.near_duplicates import Pair
from medisync.schemas import LABELS, LabelConflict


@dataclass(frozen=True)
class Relations:
    """Relations between the images of a list; images are identified by their positions."""

    pairs: list[Pair]
    """Images that show the same slice."""
    slices: list[int]
    """Number of the slice that each image shows."""
    groups: list[int]
    """Number of the group of each image: the images of a slice and the images of a patient belong together."""
    conflicts: list[LabelConflict]


def relate(images: Sequence[Entry]) -> Relations:
    """Compares all images with a progress bar."""
    pairs = _find_copies(images)
    slices = near_duplicates.components(len(images), ((pair.first, pair.second) for pair in pairs)).tolist()
    groups = near_duplicates.components(len(images), _same_slice_or_patient(images, slices)).tolist()
    return Relations(pairs, slices, groups, _conflicts(images, slices))


def _find_copies(images: Sequence[Entry]) -> list[Pair]:
    """Returns pairs of the same pixels first, then pairs of the same slice in other pixels."""
    exact = list(_exact_pairs(images))
    known = {(pair.first, pair.second) for pair in exact}
    thumbnails = (
        np.stack([entry.fingerprint.thumbnail for entry in images]) if images else np.empty((0, 1, 1), np.uint8)
    )
    near = near_duplicates.find_pairs(thumbnails, partial(tqdm, desc="copies", unit="steps", mininterval=0.5))
    return exact + [pair for pair in near if (pair.first, pair.second) not in known]


def _exact_pairs(images: Sequence[Entry]) -> Iterator[Pair]:
    first: dict[str, int] = {}
    for index, entry in enumerate(images):
        earlier = first.setdefault(entry.fingerprint.pixels_sha256, index)
        if earlier != index:
            yield Pair(earlier, index, 1.0, mirrored=False)


def _same_slice_or_patient(images: Sequence[Entry], slices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields edges between the images of a slice and between those of a patient; patient names are per hospital."""
    first: dict[object, int] = {}
    for index, (entry, slice_number) in enumerate(zip(images, slices, strict=True)):
        yield first.setdefault(slice_number, index), index
        if entry.file.patient is not None:
            yield first.setdefault((entry.hospital, entry.file.patient), index), index
        if entry.fingerprint.patient_key:
            yield first.setdefault((entry.hospital, "DICOM", entry.fingerprint.patient_key), index), index


def _conflicts(images: Sequence[Entry], slices: Sequence[int]) -> list[LabelConflict]:
    members: dict[int, list[File]] = defaultdict(list)
    for entry, slice_number in zip(images, slices, strict=True):
        members[slice_number].append(entry.file)
    return [
        LabelConflict(
            slice=number,
            paths=[file.path for file in files],
            labels=[label for label in LABELS if any(file.label == label for file in files)],
        )
        for number, files in members.items()
        if len({file.label for file in files}) > 1
    ]
