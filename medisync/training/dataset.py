"""The images of one hospital, or of an external dataset, opened from the caches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medisync.data.cache import open_cache
from medisync.imaging.intensities import Pixels
from medisync.schemas import (
    LABELS,
    OTHER,
    SPLITS,
    ExternalAudit,
    ExternalImage,
    HospitalSplit,
    Split,
    SplitImage,
    SplitRecord,
)


@dataclass(frozen=True)
class ImageSet:
    """N standardised images."""

    pixels: Pixels
    """uint8 [N, S, S]."""
    labels: NDArray[np.int64]
    """[N]: indices into LABELS; -1 for images that are of none of the classes."""
    groups: NDArray[np.int64]
    """[N]: images of one patient, or near-duplicates, have one group."""

    def __len__(self) -> int:
        return len(self.labels)


HospitalData = Mapping[Split, ImageSet]
"""A hospital's images by split; they never leave the hospital's side of the federation."""


@dataclass(frozen=True)
class ExternalImages:
    """The images of an external dataset, on which a model is evaluated and never trained."""

    known: ImageSet
    """Images of the classes."""
    other: ImageSet
    """Images that are of none of them."""

    def __len__(self) -> int:
        return len(self.known) + len(self.other)


def open_external(
    record: ExternalAudit, dataset: Path, size: int, cache: Path, on_image: Callable[[int], None] = lambda count: None
) -> ExternalImages:
    """Opens the images of an external dataset that are not excluded, at side `size`, as `open_hospital` does."""
    images = [image for image in record.images if not image.excluded]
    known = [image for image in images if image.label != OTHER]
    other = [image for image in images if image.label == OTHER]
    return ExternalImages(*(_open_set(members, dataset, size, cache, on_image) for members in (known, other)))


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
    members: Sequence[SplitImage | ExternalImage],
    dataset: Path,
    size: int,
    cache: Path,
    on_image: Callable[[int], None],
) -> ImageSet:
    labels = np.array(
        [-1 if image.label in (OTHER, None) else LABELS.index(image.label) for image in members], np.int64
    )
    groups = np.array([image.group for image in members], np.int64)
    if not members:
        return ImageSet(np.zeros((0, size, size), np.uint8), labels, groups)
    files = [(dataset / image.path, image.sha256) for image in members]
    return ImageSet(open_cache(files, size, cache, on_image), labels, groups)
