"""TEST IMAGES, not data: smooth random textures that are alike only if they have the same seed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from medisync.config import Hospital
from medisync.schemas import Label, Location

CLASS_MAP: dict[str, Label] = {"glioma": "glioma", "meningioma": "meningioma", "no tumor": "notumor"}


def texture(seed: int, side: int = 96) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 2)
    return np.interp(noise, (noise.min(), noise.max()), (0, 255)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def hospital(name: str, path: str, class_map: Mapping[str, Label] = CLASS_MAP) -> Hospital:
    location = Location(lat=0, lon=0)
    return Hospital(name=name, dataset_id=path, specialty="", location=location, path=path, class_map=dict(class_map))
