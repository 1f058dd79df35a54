"""One hospital's images, decoded into its caches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medisync.data.cache import open_cache
from medisync.data.intensities import Pixels
from medisync.schemas import LABELS, SPLITS, HospitalSplit, Split, SplitImage, SplitRecord


@dataclass(frozen=True)
class ImageSet:
    """N standardised images: `pixels` uint8 [N, S, S], `labels` and `groups` int64 [N]."""

    pixels: Pixels
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


HospitalData = Mapping[Split, ImageSet]
"""What one hospital's side of the federation holds; it never leaves there."""


def open_hospitals(
    record: SplitRecord, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> dict[str, HospitalData]:
    """Each hospital's images, decoded into its caches on first use. Raises DataError if a file changed since the audit."""
    return {
        name: open_hospital(split, dataset, size, cache, on_image) for name, split in sorted(record.hospitals.items())
    }


def open_hospital(
    split: HospitalSplit, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> HospitalData:
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
