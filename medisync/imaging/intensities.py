"""Arithmetic on grey levels: percentiles and conversion to 8 bit, for images and volumes alike."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medisync.errors import ImageError
from medisync.imaging.slices import BlankError

Pixels = NDArray[np.uint8]

BRIGHTNESS_PERCENTILES = 0.5, 99.5
"""Percentiles that become black and white."""

MAX_HOLES = 0.02
"""Largest fraction of the pixels of a head that may be holes without data."""

ROWS_AT_ONCE = 256
"""Rows converted to 8 bit at a time: the intermediate numbers take eight times the memory of the image."""


def reduce_to_bytes(values: NDArray[np.generic]) -> Pixels:
    """Scales 16-bit or floating-point intensities [H, W] to uint8, with some room beyond the 0.5th and 99.5th percentiles.

    NaN, which stands for no data, counts as air, which surrounds a head in a scan without padding.
    Raises ImageError if a value is infinite, BlankError if all are NaN.
    """
    with np.errstate(over="ignore"):  # a number too large for single precision becomes infinite, which is refused
        numbers = values.astype(np.float32)
    if np.isinf(numbers).any():
        raise ImageError("the image holds values that are not finite (infinity); export it again")
    missing = np.isnan(numbers)
    if missing.all():
        raise BlankError("the image has no content: none of its pixels holds a number")
    if missing.any():
        numbers[missing] = _air(numbers[~missing])
    low, high = _with_headroom(numbers, *_nonempty_range(numbers, *np.percentile(numbers, BRIGHTNESS_PERCENTILES)))
    scaled = np.empty(numbers.shape, np.uint8)
    for first in range(0, len(numbers), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        scaled[rows] = to_bytes(numbers[rows], low, high)
    return scaled


def _air(values: NDArray[np.float32]) -> float:
    """Returns the value of air: 0 where magnitudes begin near it, otherwise the lowest value."""
    low, high = float(values.min()), float(values.max())
    return 0.0 if 0 <= low <= high - low else low


def refuse_holes(values: NDArray[Any]) -> None:
    """Raises ImageError if values [H, W] are NaN where a head should be.

    NaN is the outside of a head if it is connected with a corner of the image, as skull stripping and resampling leave
    it. A mask may have small holes too; any other NaN is damage.
    """
    missing = np.isnan(values) if values.dtype.kind in "fc" else np.zeros(1, bool)
    if not missing.any() or missing.all():
        return
    from scipy.ndimage import label  # here because it imports slowly and few files hold NaN

    regions, _ = label(missing)
    outside = np.isin(regions, [region for region in regions[[0, 0, -1, -1], [0, -1, 0, -1]] if region])
    holes = np.count_nonzero(missing & ~outside)
    if holes and (not outside.any() or holes > MAX_HOLES * np.count_nonzero(~outside)):
        raise ImageError(
            f"values inside the image are not finite ({holes} NaN), expected NaN around the head only; export it again"
        )


def without_fill(values: NDArray[Any]) -> NDArray[Any]:
    """Replaces by NaN what programs fill in where nothing was measured; not every file format has a field for it.

    That is the lowest value, if it is negative and all others are not, or lie further from it than they differ. And it
    is 0 in all four corners of a head that was brought to mean 0.
    """
    if values.dtype.kind not in "if" or not np.isfinite(lowest := np.fmin.reduce(values, axis=None)) or lowest >= 0:
        return values
    numbers = values.astype(np.float64)
    if not numbers[[0, 0, -1, -1], [0, -1, 0, -1]].any() and min((numbers < 0).mean(), (numbers > 0).mean()) > 0.01:
        return np.where(numbers == 0, np.nan, numbers)
    others = numbers[numbers > lowest]
    if not others.size or not np.isfinite(others).all():
        return values
    far = others.min() >= 0 or others.min() - float(lowest) > np.ptp(others)
    return np.where(numbers == lowest, np.nan, numbers) if far else values


def stretch(pixels: Pixels) -> Pixels:
    """Stretches uint8 [H, W]: the 0.5th percentile becomes 0, the 99.5th 255; values beyond them are clipped."""
    low, high = _nonempty_range(pixels, *percentiles(pixels, *BRIGHTNESS_PERCENTILES))
    return to_bytes(np.arange(256, dtype=np.float64), low, high).take(pixels)


def percentiles(pixels: Pixels, *wanted: float) -> tuple[float, ...]:
    """Returns what `numpy.percentile` does for uint8, to the last bit, in a tenth of the time: from the histogram."""
    up_to = list(accumulate(Image.fromarray(pixels).histogram()))
    return tuple(_percentile(up_to, each / 100 * (pixels.size - 1)) for each in wanted)


def _percentile(up_to: Sequence[int], rank: float) -> float:
    """Interpolates at `rank`, given the number of values up to each grey level."""
    low, high = (bisect_right(up_to, whole) for whole in (math.floor(rank), math.ceil(rank)))
    weight = rank - math.floor(rank)
    return low + (high - low) * weight if weight < 0.5 else high - (high - low) * (1 - weight)


def _nonempty_range(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Falls back to the minimum and the maximum where the two percentiles coincide."""
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _with_headroom(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Widens the range to all values that lie at most once as far outside it as it is wide.

    `stretch` clips the head later, and what is clipped twice differs from an 8-bit image of the same scan.
    """
    width = high - low
    return max(float(values.min()), low - width), min(float(values.max()), high + width)


def to_bytes(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Maps `low` to 0 and `high` to 255, rounded and clipped.

    Computes in the precision of `values`; models were trained on pixels rounded in that precision.
    """
    return np.clip(np.rint((values - low) * (255.0 / max(high - low, 1e-12))), 0, 255).astype(np.uint8)
