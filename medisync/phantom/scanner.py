"""Scans synthetic patients: draws their slices and adds what a scanner adds."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medisync.phantom.anatomy import SELLAR_LEVEL, sample_anatomy, sample_lesion
from medisync.phantom.drawing import Drawing, draw
from medisync.phantom.shapes import Contrast, Field, Mask
from medisync.phantom.styles import HospitalStyle
from medisync.schemas import Label

SLICE_DISTANCE = 0.1
"""Difference in height between slices: about 7 mm, as in dataset-2. The vertex is 1 above the basal ganglia."""


@dataclass(frozen=True)
class PhantomSlice:
    """A slice as a scanner would show it (uint8 [H, W]), and its true regions (bool [H, W] each)."""

    image: NDArray[np.uint8]
    mask: Mask
    """Tumour without the surrounding oedema; empty for `notumor`."""
    lesion: Mask
    """Tumour with the oedema."""
    brain: Mask
    head: Mask
    label: Label


def draw_slice(label: Label, *, style: HospitalStyle, generator: np.random.Generator) -> PhantomSlice:
    """Draws one slice of a new patient."""
    return draw_patient(label, style=style, generator=generator, slices=1)[0]


def draw_patient(
    label: Label, *, style: HospitalStyle, generator: np.random.Generator, slices: int
) -> tuple[PhantomSlice, ...]:
    """Draws neighbouring slices of a new patient: alike, never identical."""
    # Pituitary tumours appear only at the sella, so other classes are drawn there too: the level is not a clue.
    sellar = label == "pituitary" or generator.random() < 0.35
    middle = SELLAR_LEVEL if sellar else generator.uniform(0.25, 0.75)
    anatomy = sample_anatomy(generator)
    lesion = sample_lesion(label, sellar=sellar, anatomy=anatomy, generator=generator)
    scan = _sample_scan(style, generator)
    drawn = []
    for number in range(slices):
        step = number - (slices - 1) / 2
        cut = lesion and lesion.cut(step)
        x, y = scan.coordinates(zoom=1 + 0.012 * step)
        drawing = draw(anatomy, cut, scan.contrast, x, y, middle + SLICE_DISTANCE * step)
        image = _acquire(drawing, scan, style, generator)
        drawn.append(PhantomSlice(image, drawing.tumour, drawing.lesion, drawing.brain, drawing.head, label))
    return tuple(drawn)


@dataclass(frozen=True)
class Scan:
    """The settings that all slices of one examination share; lengths in pixels, angle in radians."""

    size: tuple[int, int]
    half_length: float
    middle: tuple[float, float]
    angle: float
    contrast: Contrast
    brightness: float
    sensitivity: Field
    """Gain of the coil, [H, W]."""

    def coordinates(self, zoom: float) -> tuple[Field, Field]:
        """Returns the head coordinates x and y of each pixel, [H, W] each."""
        rows, columns = np.indices(self.size, dtype=np.float32)
        down = (rows - self.middle[0]) / (self.half_length * zoom)
        right = (columns - self.middle[1]) / (self.half_length * zoom)
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        return right * cosine + down * sine, down * cosine - right * sine


def _sample_scan(style: HospitalStyle, generator: np.random.Generator) -> Scan:
    height, width = style.sizes[generator.integers(len(style.sizes))]
    half_length = min(height, 1.15 * width) / 2 * generator.uniform(*style.fill)
    down, right = (half_length * generator.uniform(-0.03, 0.03, 2)).tolist()
    contrasts = list(style.contrasts)
    return Scan(
        size=(height, width),
        half_length=half_length,
        middle=(height / 2 + down, width / 2 + right),
        angle=generator.normal(0, 0.07),
        contrast=contrasts[generator.choice(len(contrasts), p=list(style.contrasts.values()))],
        brightness=style.brightness * math.exp(generator.normal(0, 0.1)),
        sensitivity=_sensitivity(height, width, style.bias, generator),
    )


def _sensitivity(height: int, width: int, bias: float, generator: np.random.Generator) -> Field:
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    right = np.linspace(-1, 1, width, dtype=np.float32)
    tilt, lean, bowl = generator.normal(0, bias, 3).tolist()
    return np.exp(tilt * right + lean * down + bowl * (right**2 + down**2))


def _acquire(drawing: Drawing, scan: Scan, style: HospitalStyle, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Simulates the scanner: tissue grain, coil sensitivity, point spread, gain and Rician noise.

    Noise model: Gudbjartsson and Patz 1995, https://doi.org/10.1002/mrm.1910340618
    """
    grain = ndimage.gaussian_filter(generator.standard_normal(scan.size, dtype=np.float32), 1.2)
    signal = ndimage.gaussian_filter(drawing.intensity * (1 + 0.12 * grain) * scan.sensitivity, style.blur)
    signal *= scan.brightness / signal[drawing.head].mean()
    real, imaginary = style.noise * generator.standard_normal((2, *scan.size), dtype=np.float32)
    return np.rint(np.clip(np.hypot(signal + real, imaginary), 0, 1) * 255).astype(np.uint8)
