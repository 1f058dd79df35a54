"""One axial slice of a synthetic head, painted layer by layer: scalp, skull, brain, tumour.

Coordinates are head units: half the head's length is 1 (about 95 mm), x grows to the image's right, y to the
back of the head. A shape is a signed distance, negative inside, so that its edge is smooth at any image size. The
head is a schematic: nothing in it is copied from a scan.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medisync.schemas import Label

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


@dataclass(frozen=True)
class Drawing:
    """A slice: intensities in [0, 1] and regions, all [height, width]."""

    intensity: Field
    head: Mask
    brain: Mask
    tumour: Mask
    lesion: Mask
    """Tumour and surrounding oedema."""


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
    edge = 1 / float(_outline(np.array(x), np.array(y), anatomy)) - anatomy.scalp - anatomy.skull
    inside = (edge - 1.45 * radius - 0.05) * generator.uniform(0.75, 1.0)
    reach = edge - 0.5 * radius if label == "meningioma" else inside
    return int(generator.choice((-1, 1))) * reach * x, reach * y


def _waves(amplitude: float, generator: np.random.Generator) -> Waves:
    return tuple((generator.normal(0, amplitude / n), generator.uniform(0, math.tau)) for n in range(1, 7))


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


@dataclass(frozen=True)
class Brain:
    """Position of each pixel in the brain of a slice: coordinates, and `inner`, the depth below the brain's edge."""

    x: Field
    y: Field
    inner: Field
    height: float


def draw(anatomy: Anatomy, lesion: Lesion | None, contrast: Contrast, x: Field, y: Field, height: float) -> Drawing:
    """Paints the slice at `height`: below 0 around the sella, from 0 (basal ganglia) to 1 (vertex) above it.

    `x` and `y` [height, width] are the head coordinates of each pixel's centre.
    """
    tissue = {name: values[CONTRASTS.index(contrast)] for name, values in TISSUES.items()}
    pixel = float(np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]))
    canvas = Canvas(np.full(x.shape, tissue["air"], dtype=np.float32), tissue, pixel)
    x, y = _swayed(x, y, anatomy)
    depth = _depth(x, y, anatomy, pixel)
    bone = depth - anatomy.scalp
    face = y + 0.4 * (height - SELLAR_LEVEL)  # the face comes forward from slice to slice
    inner = bone - anatomy.skull if height >= 0 else np.minimum(bone - anatomy.skull, _face(x, face) - 0.02)
    brain = Brain(*_squeezed(x, y, inner, lesion), inner, height)
    _paint_wall(canvas, depth, anatomy)
    _paint_cortex(canvas, brain, anatomy)
    if height < 0:
        _paint_sellar(canvas, brain, anatomy)
        _paint_face(canvas, x, face, 0.7 * anatomy.scalp - depth)
    else:
        _paint_deep(canvas, brain, anatomy)
        _paint_falx(canvas, brain, anatomy)
    nothing = np.zeros(x.shape, dtype=bool)
    mask, swollen = _paint_lesion(canvas, x, y, inner, lesion) if lesion else (nothing, nothing)
    return Drawing(canvas.values, depth > 0, inner > 0, mask, swollen)


def _swayed(x: Field, y: Field, anatomy: Anatomy) -> tuple[Field, Field]:
    first, second, third, fourth = (
        size * np.sin(number * along + phase)
        for (size, number, phase), along in zip(anatomy.sway, (x, y, x, y), strict=True)
    )
    return x + first + second, y + third + fourth


def _outline(x: Field, y: Field, anatomy: Anatomy) -> Field:
    """Returns the distance from the middle of the head, scaled so that it is 1 on the scalp."""
    width = anatomy.half_width * (1 + anatomy.taper * y / (np.hypot(x, y) + 1e-9))
    return (np.abs(x / width) ** 2.25 + np.abs(y) ** 2.25) ** (1 / 2.25)


def _depth(x: Field, y: Field, anatomy: Anatomy, pixel: float) -> Field:
    """Returns the distance below the scalp, to first order."""
    outline = _outline(x, y, anatomy)
    slope = np.hypot(*np.gradient(outline)) / pixel
    return (1 - outline) / np.maximum(slope, 0.7)


def _squeezed(x: Field, y: Field, inner: Field, lesion: Lesion | None) -> tuple[Field, Field]:
    """Returns where the tissue at (x, y) was before the tumour displaced it; the skull does not move."""
    if lesion is None:
        return x, y
    across, along = x - lesion.centre[0], y - lesion.centre[1]
    reach = np.hypot(across, along) + 1e-6
    fall = np.exp(-((reach / (2.4 * lesion.radius)) ** 2)) * np.clip(inner / 0.12, 0, 1)
    push = lesion.squeeze * lesion.radius * fall / reach
    return x - push * across, y - push * along


def _paint_wall(canvas: Canvas, depth: Field, anatomy: Anatomy) -> None:
    bone = depth - anatomy.scalp
    canvas.paint("skin", -depth)
    canvas.paint("fat", 0.012 - depth)
    canvas.paint("bone", -bone)
    canvas.paint("marrow", np.abs(bone - anatomy.skull / 2) - anatomy.skull / 5)
    canvas.paint("dura", anatomy.skull + 0.006 - bone)
    canvas.paint("csf", anatomy.skull + 0.012 - bone)


def _paint_cortex(canvas: Canvas, brain: Brain, anatomy: Anatomy) -> None:
    """Paints white matter under a grey ribbon that follows the edge and the sulci."""
    folds, vessels = _folds(brain, anatomy)
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(folds, 1))) / canvas.pixel
    floor = 0.16 + 0.06 * vessels + 0.12 * max(brain.height, 0)
    sulcus = np.hypot(folds / np.maximum(slope, 5), np.maximum(brain.inner - floor, 0))
    gap = 0.013 * anatomy.ventricles * (1 - 0.5 * np.clip(brain.inner / floor, 0, 1))
    outside = 0.024 - brain.inner
    canvas.paint("white", outside)
    canvas.paint("grey", np.maximum(np.minimum(sulcus, brain.inner - 0.015) - 0.04, outside), 0.95, soft=2.5)
    canvas.paint("csf", np.maximum(sulcus - gap, outside), 0.85)
    crossing = np.maximum(sulcus - 0.012, np.abs(brain.inner - 0.04) - 0.03)
    canvas.paint("vessel", np.where(vessels > 1.1, crossing, 1), 0.8)


def _folds(brain: Brain, anatomy: Anatomy) -> tuple[Field, Field]:
    """Samples the noise of folds, with different sulci every 7 mm, and of vessels, around the middle of the brain."""
    angle = np.arctan2(brain.y, brain.x) * (180 / math.pi)
    angle += 4 * np.sin(8 * brain.x + 11 * brain.y + anatomy.sway[0][2])
    angle += 2 * np.sin(22 * brain.inner + 9 * brain.x)
    polar = np.stack([angle % 360, np.clip(brain.inner, 0, 0.7) * 26])
    first, second, vessels = (
        ndimage.map_coordinates(plane, polar, output=np.float32, order=1, mode="grid-wrap") for plane in anatomy.folds
    )
    turn = 12 * brain.height
    return math.cos(turn) * first + math.sin(turn) * second, vessels


def _ramp(value: float, start: float, stop: float) -> float:
    """Returns 0 at `start`, 1 at `stop`, and interpolates linearly between them."""
    return min(max((value - start) / (stop - start), 0.0), 1.0)


def _paint_deep(canvas: Canvas, brain: Brain, anatomy: Anatomy) -> None:
    """Paints nuclei and third ventricle low down, and lateral ventricles up to their roof; above is white matter."""
    low, roof = _ramp(brain.height, 0.45, 0), _ramp(brain.height, 0.85, 0.55)
    outside = 0.01 - brain.inner
    side = np.abs(brain.x)
    canvas.paint_shapes(DEEP_NUCLEI, side, brain.y, outside, low)
    insula = np.abs(Disc("csf", (0.27, -0.02), (0.18, 0.30)).distance(side, brain.y)) - 0.009
    canvas.paint("csf", np.maximum(insula, 0.36 - side), low)
    for sign in (-1, 1):
        size = roof * anatomy.ventricles * (1 + sign * anatomy.asymmetry)
        canvas.paint_shapes(_ventricle(size, brain.height), sign * brain.x, brain.y, outside, float(roof > 0))


def _ventricle(size: float, height: float) -> tuple[Line, ...]:
    """Returns one lateral ventricle: horns that diverge from the midline low down, a long body further up."""
    rise = _ramp(height, 0.25, 0.5)
    thin, wide = 0.026 * size, 0.046 * size
    root, knee = (0.045 + 0.05 * rise, -0.10 + 0.10 * rise), (0.065 + 0.02 * rise, -0.24)
    tip = (0.135 - 0.02 * rise, -0.37)
    rear, end = (0.20 - 0.09 * rise, 0.20 - 0.05 * rise), (0.27 - 0.10 * rise, 0.40 - 0.05 * rise)
    top, bottom = (rear[0] + 0.01, rear[1] + 0.03), (rear[0] + 0.035, rear[1] + 0.12)
    return (
        Line("csf", root, knee, (thin, wide), soft=2),
        Line("csf", knee, tip, (wide, thin), soft=2),
        Line("csf", root, rear, (thin, wide), opacity=rise, soft=2),
        Line("csf", rear, end, (wide, 0.9 * wide), soft=2),
        Line("choroid", top, bottom, (0.014, 0.02), opacity=0.8 * (1 - rise)),
    )


def _paint_falx(canvas: Canvas, brain: Brain, anatomy: Anatomy) -> None:
    """Paints the fissure between the hemispheres and the falx; low down, the corpus callosum interrupts them."""
    callosum = 0.44 * _ramp(brain.height, 0.9, 0.65)
    apart = np.maximum(np.abs(brain.x), callosum - np.abs(brain.y))
    outside = 0.004 - brain.inner
    canvas.paint("grey", np.maximum(apart - anatomy.fissure - 0.03, outside), 0.9, soft=2.5)
    winding = anatomy.fissure * (1 + 0.4 * np.sin(23 * brain.y))
    canvas.paint("csf", np.maximum(apart - winding, outside), 0.9)
    canvas.paint("dura", np.maximum(apart - 0.006, outside), 0.9)
    sinus = 0.0275 + 0.0075 * np.sign(brain.y)  # the sagittal sinus is cut twice, and is wider at the back
    canvas.paint("vessel", np.hypot(1.2 * brain.x, brain.inner - 0.005) - sinus, 0.8)


def _face(x: Field, y: Field) -> Field:
    """Returns the distance from the orbits and the bone between them, which bound the brain in front."""
    orbits = Disc("bone", ORBIT.centre, (0.22, 0.33), ORBIT.tilt).distance(np.abs(x), y)
    return np.minimum(orbits, Disc("bone", (0, -0.86), (0.17, 0.30)).distance(x, y))


def _paint_face(canvas: Canvas, x: Field, y: Field, skin: Field) -> None:
    canvas.paint("bone", np.maximum(_face(x, y) - 0.025, skin))
    canvas.paint_shapes([ETHMOID], x, y, skin)
    cells = 0.45 - np.abs(np.sin(32 * x + 3 * y) * np.sin(24 * y + 1.3))
    canvas.paint("air", np.maximum(ETHMOID.distance(x, y), 0.05 * cells))
    canvas.paint_shapes((ORBIT, *EYE), np.abs(x), y, skin)


def _paint_sellar(canvas: Canvas, brain: Brain, anatomy: Anatomy) -> None:
    """Paints temporal lobes, cisterns with arteries, midbrain, tentorium and cerebellum, scaled around the sella."""
    size = anatomy.base * (1 + 0.8 * (brain.height - SELLAR_LEVEL))
    x, y = np.abs(brain.x) / size, (brain.y + 0.13) / size - 0.13
    outside = 0.02 - brain.inner
    cerebellum = np.maximum(CEREBELLUM.distance(x, y), outside)
    canvas.paint("csf", cerebellum - 0.02)
    canvas.paint("grey", cerebellum)
    folia = 0.02 * np.sin(58 * np.hypot(x, y - 0.26) + 2 * np.sin(6 * x))
    canvas.paint("white", np.maximum(folia, cerebellum + 0.03), 0.7)
    star = 0.13 * (1 - 0.28 * np.cos(5 * np.arctan2(x, y + 0.13)))
    canvas.paint("csf", np.hypot(x, y + 0.13) - star)  # suprasellar cistern
    canvas.paint_shapes(SELLAR_REGION, x, y, outside)


def _paint_lesion(canvas: Canvas, x: Field, y: Field, inner: Field, lesion: Lesion) -> tuple[Mask, Mask]:
    """Paints the tumour; returns its mask, and the mask of tumour and oedema."""
    across, along = x - lesion.centre[0], y - lesion.centre[1]
    angle = np.arctan2(along, across)
    distance = np.hypot(across, along) - lesion.radius * (1 + _wave(angle, lesion.outline))
    if lesion.label == "glioma":
        swollen = _paint_glioma(canvas, angle, distance, 0.03 - inner, lesion)
        return np.maximum(distance, 0.03 - inner) < 0, swollen
    mask = np.maximum(distance, 0.006 - inner) < 0
    swollen = mask
    if lesion.label == "meningioma":
        swollen = mask | _paint_dural_signs(canvas, angle, distance, inner, lesion)
    canvas.paint(lesion.label, np.maximum(distance, 0.006 - inner))
    return mask, swollen


def _paint_glioma(canvas: Canvas, angle: Field, distance: Field, outside: Field, lesion: Lesion) -> Mask:
    """Paints an enhancing rim of varying thickness around necrosis, and finger-like oedema; returns the whole mask."""
    thickness = lesion.radius * np.maximum(0.19 + 0.45 * _wave(angle, lesion.rim), 0.07)
    fingers = lesion.radius * np.maximum(0.55 + 2 * _wave(angle, lesion.halo), 0.1)
    uptake = 0.85 + 0.5 * np.clip(_wave(2 * angle, lesion.rim), -0.5, 0.3)
    canvas.paint("oedema", np.maximum(distance - fingers, outside), 0.85, soft=7)
    canvas.paint("rim", np.maximum(distance, outside), uptake, soft=2.5)
    canvas.paint("necrosis", np.maximum(distance + thickness, outside), 0.92, soft=3.5)
    return np.maximum(distance - fingers, outside) < 0


def _paint_dural_signs(canvas: Canvas, angle: Field, distance: Field, inner: Field, lesion: Lesion) -> Mask:
    """Paints the signs of a dural tumour: a little oedema, a CSF cleft, a dural tail. Returns the oedema's mask."""
    halo = distance - 0.10 - 0.5 * _wave(angle, lesion.halo)
    canvas.paint("oedema", np.maximum(halo, 0.02 - inner), 0.5, soft=6)
    canvas.paint("csf", np.maximum(distance - 0.018, 0.012 - inner), 0.8)
    tail = np.maximum(np.abs(inner - 0.012) - 0.012, distance - 0.6 * lesion.radius)
    canvas.paint("meningioma", tail, 0.8)
    return np.maximum(halo, 0.02 - inner) < 0


def _wave(angle: Field, waves: Waves) -> Field:
    total = np.zeros_like(angle)
    for order, (size, phase) in enumerate(waves, start=2):
        total += size * np.cos(order * angle + phase)
    return total
