"""Which planes of a stored volume are drawn, and which way up: as a radiologist sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medisync.imaging.limits import MAX_PIXEL_ASPECT, MIN_SIDE

RIGHT, FRONT, TOP = range(3)

NAMES = ("sagittal", "coronal", "axial")
"""Planes by the direction in which they are stacked."""

THICK = 2.0
"""A volume is drawn in the plane of its acquisition where slices lie over this many times further apart than pixels."""


@dataclass(frozen=True)
class Planes:
    """The planes of a stored volume [I, J, K] across one of its axes."""

    directions: tuple[int, ...]
    """For each stored axis RIGHT, FRONT or TOP."""
    signs: tuple[int, ...]
    """For each stored axis 1, or -1 if it runs the other way."""
    across: int
    """The stored axis along which the planes are stacked."""
    spacing: tuple[float, float]
    """Distance between rows and between columns of a plane as it is drawn."""
    notes: tuple[str, ...] = ()

    def stored_index(self, index: int, count: int) -> int:
        """Returns where plane `index` is stored, counted from the left, the back or the bottom."""
        return index if self.signs[self.across] > 0 else count - 1 - index

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Turns a stored plane [A, B] or [A, B, C]: the top or the front is up, the patient's right or front on the left."""
        first, second = _others(self.across)
        # an axis that runs to the right, to the front or to the top is reversed
        plane = plane[:: -self.signs[first], :: -self.signs[second]]
        return np.ascontiguousarray(plane.swapaxes(0, 1) if self.directions[first] < self.directions[second] else plane)


def choose_planes(shape: Sequence[int], affine: NDArray[np.float64], zooms: Sequence[float]) -> Planes:
    """Chooses axial planes, or those of the acquisition where axial ones would cut through few or thick slices.

    `zooms` are the voxels' sides, used where the affine is not usable; then the axes are taken as they are stored.
    """
    directions, signs, sides, notes = _orientation(affine, zooms)
    across = _across(shape, directions, sides)
    if directions[across] != TOP:
        notes = (*notes, f"{NAMES[directions[across]]} slices, the plane in which the volume was acquired")
    first, second = sorted(_others(across), key=lambda axis: -directions[axis])
    return Planes(directions, signs, across, (sides[first], sides[second]), notes)


def _others(across: int) -> tuple[int, int]:
    first, second = (axis for axis in range(3) if axis != across)
    return first, second


def _orientation(
    affine: NDArray[np.float64], zooms: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...], tuple[str, ...]]:
    """Returns directions, signs and sides of the stored axes, and a note where the affine is not usable."""
    if np.isfinite(affine).all():
        orientation = nibabel.io_orientation(affine)  # type: ignore[no-untyped-call]
        if np.isfinite(orientation).all():
            directions, signs = orientation.T.astype(int).tolist()
            return tuple(directions), tuple(signs), _sides(affine), ()
    note = "the file does not say how the head lies: drawn as it is stored, perhaps turned or mirrored"
    return (RIGHT, FRONT, TOP), (1, 1, 1), tuple(map(float, zooms)), (note,)


def _sides(affine: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(voxel_sizes(affine).tolist())  # type: ignore[no-untyped-call]


def _across(shape: Sequence[int], directions: Sequence[int], sides: Sequence[float]) -> int:
    axial = directions.index(TOP)
    if _shorter_side(shape, axial) >= MIN_SIDE:
        *_, second, thickest = sorted(sides)
        return sides.index(thickest) if THICK * second < thickest <= MAX_PIXEL_ASPECT * second else axial
    return max(range(3), key=lambda axis: (_shorter_side(shape, axis), axis == axial))


def _shorter_side(shape: Sequence[int], across: int) -> int:
    return min(shape[axis] for axis in _others(across))
