"""Hospitals whose images are noise: what they show does not matter for how long they take."""

from collections.abc import Mapping

import numpy as np

from medisync.schemas import LABELS
from medisync.training.dataset import HospitalData, ImageSet


def hospitals(side: int, images: Mapping[str, int]) -> dict[str, HospitalData]:
    """So many images to train on at each hospital, a quarter of them, or two, to validate on, and as many to test on."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> ImageSet:
        pixels = generator.integers(0, 256, (count, side, side), np.uint8)
        return ImageSet(pixels, np.arange(count) % len(LABELS), np.arange(count))

    def hospital(count: int) -> HospitalData:
        few = max(2, count // 4)
        return {"train": draw(count), "val": draw(few), "test": draw(few)}

    return {name: hospital(count) for name, count in images.items()}
