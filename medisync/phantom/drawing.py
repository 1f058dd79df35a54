"""Draws one axial slice of a synthetic head, layer by layer: scalp, skull, brain, tumour."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medisync.phantom.anatomy import SELLAR_LEVEL, Anatomy, Lesion, outline
from medisync.phantom.shapes import (
    CEREBELLUM,
    CONTRASTS,
    DEEP_NUCLEI,
    ETHMOID,
    EYE,
    ORBIT,
    SELLAR_REGION,
    TISSUES,
    Canvas,
    Contrast,
    Disc,
    Field,
    Line,
    Mask,
    Waves,
)


@dataclass(frozen=True)
class Drawing:
    """A slice: intensities in [0, 1] and regions, all [height, width]."""

    intensity: Field
    head: Mask
    brain: Mask
    tumour: Mask
    lesion: Mask
    """Tumour and surrounding oedema."""


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


def _depth(x: Field, y: Field, anatomy: Anatomy, pixel: float) -> Field:
    """Returns the distance below the scalp, to first order."""
    scaled = outline(x, y, anatomy)
    slope = np.hypot(*np.gradient(scaled)) / pixel
    return (1 - scaled) / np.maximum(slope, 0.7)


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
