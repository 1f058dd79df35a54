"""Shapes and tissues of a synthetic head, and the canvas they are painted on.

Coordinates are head units: half the head's length is 1 (about 95 mm), x grows to the image's right, y to the
back of the head. A shape is a signed distance, negative inside, so that its edge is smooth at any image size.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""One number per pixel, [height, width]; float32 in practice, which draws twice as fast as float64."""

Mask = NDArray[np.bool_]
Point = tuple[float, float]
Waves = tuple[Point, ...]
"""Amplitude, and phase in radians, of the harmonics 2, 3, ... of a closed curve."""

Contrast = Literal["T1c", "T1", "T2"]
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)
"""Contrast-enhanced T1, plain T1, T2."""

TISSUES: Mapping[str, tuple[float, float, float]] = {
    "skin": (0.36, 0.40, 0.28),
    "fat": (0.82, 0.88, 0.62),
    "bone": (0.05, 0.05, 0.04),
    "marrow": (0.36, 0.40, 0.26),
    "csf": (0.11, 0.10, 0.93),
    "grey": (0.35, 0.38, 0.56),
    "white": (0.48, 0.56, 0.38),
    "dura": (0.62, 0.30, 0.16),
    "vessel": (0.92, 0.14, 0.06),
    "muscle": (0.34, 0.34, 0.20),
    "air": (0.02, 0.02, 0.02),
    "mucosa": (0.62, 0.36, 0.72),
    "eye": (0.13, 0.13, 0.95),
    "lens": (0.34, 0.36, 0.16),
    "choroid": (0.72, 0.34, 0.66),
    "rim": (0.95, 0.66, 0.34),
    "necrosis": (0.13, 0.17, 0.88),
    "oedema": (0.27, 0.32, 0.76),
    "meningioma": (0.84, 0.33, 0.68),
    "pituitary": (0.82, 0.50, 0.60),
}
"""Intensity of each tissue in each contrast, in [0, 1]: ordered as in real scans, with tumours a little clearer."""


@dataclass(frozen=True)
class Disc:
    """An ellipse of one tissue; `tilt` in radians, `soft` is the width of its edge in pixels."""

    tissue: str
    centre: Point
    radii: Point
    tilt: float = 0.0
    opacity: float = 1.0
    soft: float = 1.5

    def distance(self, x: Field, y: Field) -> Field:
        across, along = x - self.centre[0], y - self.centre[1]
        sine, cosine = math.sin(self.tilt), math.cos(self.tilt)
        u, v = across * cosine + along * sine, along * cosine - across * sine
        return (np.hypot(u / self.radii[0], v / self.radii[1]) - 1) * min(self.radii)


@dataclass(frozen=True)
class Line:
    """A straight band of one tissue; `radii` are half its width at `start` and `end`."""

    tissue: str
    start: Point
    end: Point
    radii: Point
    opacity: float = 1.0
    soft: float = 1.5

    def distance(self, x: Field, y: Field) -> Field:
        across, along = self.end[0] - self.start[0], self.end[1] - self.start[1]
        u, v = x - self.start[0], y - self.start[1]
        fraction = np.clip((u * across + v * along) / (across**2 + along**2), 0, 1)
        thickness = self.radii[0] + fraction * (self.radii[1] - self.radii[0])
        return np.hypot(u - fraction * across, v - fraction * along) - thickness


# The right half of each region, in the order of painting; the left half mirrors it.
DEEP_NUCLEI = (
    Disc("grey", (0.20, -0.22), (0.06, 0.12), 0.35, soft=4),  # caudate
    Disc("grey", (0.30, -0.04), (0.075, 0.17), -0.3, soft=4),  # lentiform
    Disc("grey", (0.12, 0.10), (0.09, 0.13), -0.5, soft=4),  # thalamus
    Line("csf", (0.60, -0.16), (0.46, -0.06), (0.025, 0.012)),  # Sylvian fissure
    Line("csf", (0, -0.06), (0, 0.16), (0.010, 0.014)),  # third ventricle
)
CEREBELLUM = Disc("grey", (0, 0.50), (0.46, 0.27))
SELLAR_REGION = (
    Disc("white", (0.20, 0.44), (0.13, 0.09), 0.4, 0.9, soft=4),
    Disc("grey", (0, 0.52), (0.05, 0.19), 0, 0.9, soft=3),  # vermis
    Line("dura", (0.15, 0.20), (0.55, 0.44), (0.008, 0.014), 0.9),  # tentorium
    Line("csf", (0.10, -0.16), (0.60, -0.285), (0.035, 0.022)),  # Sylvian fissure
    Disc("csf", (0, 0.11), (0.195, 0.185), 0, 0.9),  # ambient cistern
    Disc("white", (0.055, 0.10), (0.105, 0.15), -0.4, soft=2),  # midbrain
    Disc("csf", (0, -0.05), (0.035, 0.06)),
    Disc("csf", (0, 0.18), (0.012, 0.014)),  # aqueduct
    Disc("csf", (0, 0.265), (0.05, 0.03)),
    Line("csf", (0.36, 0.02), (0.31, 0.20), (0.016, 0.03)),  # temporal horn
    Disc("grey", (0.25, 0.02), (0.055, 0.10), 0.2, 0.8, soft=3),  # hippocampus
    Line("vessel", (0.12, -0.15), (0.16, -0.19), (0.018, 0.018), 0.9),  # carotid and middle cerebral artery
    Line("vessel", (0.16, -0.19), (0.52, -0.27), (0.016, 0.008), 0.9),
    Disc("vessel", (0, -0.045), (0.018, 0.018), 0, 0.9),  # basilar artery
    Line("grey", (0, -0.14), (0.08, -0.20), (0.014, 0.012)),  # optic chiasm
    Disc("dura", (0, -0.10), (0.014, 0.014), 0, 0.7),  # stalk of the pituitary
)
ORBIT = Disc("fat", (0.32, -0.70), (0.19, 0.30), 0.32, 0.9)
ETHMOID = Disc("mucosa", (0, -0.82), (0.10, 0.24), 0, 0.8)
EYE = (
    Line("muscle", (0.24, -0.72), (0.19, -0.46), (0.022, 0.015)),
    Line("muscle", (0.46, -0.72), (0.24, -0.44), (0.022, 0.015)),
    Line("muscle", (0.345, -0.68), (0.20, -0.42), (0.022, 0.015)),  # optic nerve
    Disc("muscle", (0.335, -0.735), (0.115, 0.115)),
    Disc("eye", (0.335, -0.735), (0.097, 0.097)),
    Disc("lens", (0.335, -0.82), (0.045, 0.022)),
)


@dataclass(frozen=True)
class Canvas:
    """The image being painted; `pixel` is the size of a pixel in head units."""

    values: Field
    tissue: Mapping[str, float]
    pixel: float

    def paint(self, tissue: str, distance: Field, opacity: Field | float = 1.0, soft: float = 1.5) -> None:
        """Paints a tissue where `distance` is negative; the edge is `soft` pixels wide."""
        cover = np.clip(0.5 - distance / (soft * self.pixel), 0, 1) * opacity
        self.values[...] += cover * (self.tissue[tissue] - self.values)

    def paint_shapes(
        self, shapes: Iterable[Disc | Line], x: Field, y: Field, within: Field, opacity: float = 1.0
    ) -> None:
        """Paints each shape, but only where `within` is also negative."""
        for shape in shapes:
            distance = np.maximum(shape.distance(x, y), within)
            self.paint(shape.tissue, distance, opacity * shape.opacity, shape.soft)
