"""Hospitals whose images are noise, for benchmarks of time and memory, which do not depend on what images show."""

from collections.abc import Mapping

import numpy as np

from medisync.schemas import LABELS
from medisync.training.dataset import HospitalData, ImageSet


def hospitals(side: int, images: Mapping[str, int]) -> dict[str, HospitalData]:
    """Returns hospitals with the given numbers of training images; validation and test have a quarter of them each, at least two."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> ImageSet:
        pixels = generator.integers(0, 256, (count, side, side), np.uint8)
        return ImageSet(pixels, np.arange(count) % len(LABELS), np.arange(count))

    def hospital(count: int) -> HospitalData:
        few = max(2, count // 4)
        return {"train": draw(count), "val": draw(few), "test": draw(few)}

    return {name: hospital(count) for name, count in images.items()}
