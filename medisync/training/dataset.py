"""One hospital's images, opened from its caches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medisync.data.cache import open_cache
from medisync.imaging.intensities import Pixels
from medisync.schemas import LABELS, SPLITS, HospitalSplit, Split, SplitImage, SplitRecord


@dataclass(frozen=True)
class ImageSet:
    """N standardised images."""

    pixels: Pixels
    """uint8 [N, S, S]."""
    labels: NDArray[np.int64]
    """[N]: indices into LABELS."""
    groups: NDArray[np.int64]
    """[N]: images of one patient, or near-duplicates, have one group."""

    def __len__(self) -> int:
        return len(self.labels)


HospitalData = Mapping[Split, ImageSet]
"""A hospital's images by split; they never leave the hospital's side of the federation."""


def open_hospitals(
    record: SplitRecord, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> dict[str, HospitalData]:
    """Opens every hospital's images at side `size`, by hospital, as `open_hospital` does."""
    return {
        name: open_hospital(split, dataset, size, cache, on_image) for name, split in sorted(record.hospitals.items())
    }


def open_hospital(
    split: HospitalSplit, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> HospitalData:
    """Opens one hospital's images at side `size`, by split.

    The first time, the files are decoded into its caches, and `on_image` is called with the number decoded since the
    last call.

    Raises DataError if a file has changed since the audit.
    """
    return {name: _open_set(getattr(split, name), dataset, size, cache, on_image) for name in SPLITS}


def _open_set(
    members: list[SplitImage], dataset: Path, size: int, cache: Path, on_image: Callable[[int], None]
) -> ImageSet:
    labels = np.array([LABELS.index(image.label) for image in members], np.int64)
    groups = np.array([image.group for image in members], np.int64)
    if not members:
        return ImageSet(np.zeros((0, size, size), np.uint8), labels, groups)
    files = [(dataset / image.path, image.sha256) for image in members]
    return ImageSet(open_cache(files, size, cache, on_image), labels, groups)
