"""The anatomy of a synthetic patient and its tumour, sampled at random, in the head units of `shapes`.

The head is a schematic: nothing in it is copied from a scan.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from medisync.phantom.shapes import Field, Point, Waves
from medisync.schemas import Label


@dataclass(frozen=True)
class Anatomy:
    """The anatomy that all slices of one patient share; lengths in head units, angles in radians."""

    half_width: float
    taper: float
    scalp: float
    skull: float
    ventricles: float
    asymmetry: float
    fissure: float
    base: float
    """Scale of the structures around the sella."""
    sway: tuple[tuple[float, float, float], ...]
    """Four waves (amplitude, wave number, phase) that bend the coordinates, so that no two heads are alike."""
    folds: Field
    """Periodic noise [3, angles, depths]; sulci run where the first two planes are 0, the third positions vessels."""


@dataclass(frozen=True)
class Lesion:
    """A tumour; lengths in head units."""

    label: Label
    centre: Point
    radius: float
    outline: Waves
    rim: Waves
    halo: Waves
    squeeze: float
    """Displacement of the surrounding brain, as a fraction of the radius."""

    def cut(self, step: float) -> "Lesion":
        """Returns the tumour `step` slices from its middle: narrower, with another edge."""
        outline, rim, halo = (
            tuple((size, phase + 0.6 * step) for size, phase in waves) for waves in (self.outline, self.rim, self.halo)
        )
        return replace(self, radius=self.radius * (1 - 0.06 * step**2), outline=outline, rim=rim, halo=halo)


SELLAR_LEVEL = -0.5
"""Height of a slice through the sella."""


def sample_anatomy(generator: np.random.Generator) -> Anatomy:
    """Samples the anatomy of a patient."""
    uniform = generator.uniform
    noise = ndimage.gaussian_filter(generator.standard_normal((3, 360, 24)), (0, 2.7, 3.2), mode="wrap")
    return Anatomy(
        half_width=uniform(0.73, 0.83),
        taper=uniform(0.03, 0.10),
        scalp=uniform(0.045, 0.075),
        skull=uniform(0.055, 0.08),
        ventricles=uniform(0.7, 1.35),
        asymmetry=uniform(-0.12, 0.12),
        fissure=uniform(0.012, 0.024),
        base=uniform(0.88, 1.1),
        sway=tuple((uniform(-0.016, 0.016), uniform(1.5, 4.0), uniform(0, math.tau)) for _ in range(4)),
        folds=(noise / noise.std(axis=(1, 2), keepdims=True)).astype(np.float32),
    )


def sample_lesion(label: Label, *, sellar: bool, anatomy: Anatomy, generator: np.random.Generator) -> Lesion | None:
    """Samples a tumour where its kind grows: in the brain, on its edge, or in the sella; None for `notumor`."""
    if label == "notumor":
        return None
    sizes = {"glioma": (0.15, 0.25), "meningioma": (0.18, 0.27), "pituitary": (0.095, 0.15)}
    roughness = {"glioma": 0.13, "meningioma": 0.05, "pituitary": 0.05}
    # Less room beside the sella than in the hemispheres.
    radius = generator.uniform(*sizes[label]) * (0.8 if sellar and label != "pituitary" else 1)
    return Lesion(
        label=label,
        centre=_position(label, radius, sellar, anatomy, generator),
        radius=radius,
        outline=_waves(roughness[label], generator),
        rim=_waves(0.22, generator),
        halo=_waves(0.16, generator),
        squeeze=generator.uniform(0.25, 0.5),
    )


def _position(label: Label, radius: float, sellar: bool, anatomy: Anatomy, generator: np.random.Generator) -> Point:
    if label == "pituitary":
        return generator.uniform(-0.02, 0.02), generator.uniform(-0.16, -0.11)
    angle = generator.uniform(*((-0.3, 1.2) if sellar else (-1.4, 1.4)))
    x, y = math.cos(angle), math.sin(angle)
    edge = 1 / float(outline(np.array(x), np.array(y), anatomy)) - anatomy.scalp - anatomy.skull
    inside = (edge - 1.45 * radius - 0.05) * generator.uniform(0.75, 1.0)
    reach = edge - 0.5 * radius if label == "meningioma" else inside
    return int(generator.choice((-1, 1))) * reach * x, reach * y


def _waves(amplitude: float, generator: np.random.Generator) -> Waves:
    return tuple((generator.normal(0, amplitude / n), generator.uniform(0, math.tau)) for n in range(1, 7))


def outline(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Returns the distance from the middle of the head, scaled so that it is 1 on the scalp."""
    width = anatomy.half_width * (1 + anatomy.taper * y / (np.hypot(x, y) + 1e-9))
    return (np.abs(x / width) ** 2.25 + np.abs(y) ** 2.25) ** (1 / 2.25)
