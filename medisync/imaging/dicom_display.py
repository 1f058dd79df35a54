"""From a DICOM file's stored values to what a radiologist sees, in the standard's order (PS3.4, N.2; PS3.3, C.11).

Stored values, padding set aside, palette or rescale, window, and light on dark.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing

from medisync.errors import ImageError
from medisync.imaging.dicom_fields import PADDINGS, WINDOWS, number, numbers, require
from medisync.imaging.intensities import Pixels, to_bytes

Values = NDArray[Any]
Mask = NDArray[np.bool_]

FITTING, ACCEPTABLE = 0.1, 0.35
"""Fractions of the head that a window may clip: up to the first it is taken, up to the second if there is no better one."""

MIN_LEVELS = 32
"""Fewest grey levels that a window must leave between the darkest and the brightest of the head."""

HEAD_THRESHOLD = 0.1
"""The head is what is brighter than this fraction of the way from the darkest to the brightest intensities."""

MIN_LEFT = 0.01
"""Smallest fraction of an image that padding may leave; if it leaves less, the padding value is a mistake."""

LOW_GAP, HIGH_GAP = 0.25, 1.0
"""Undeclared padding is that far from all other values, as a fraction of their range: below it, or above it."""


def displayed(stored: Values, fields: Dataset, kind: str) -> tuple[Values, tuple[str, ...]]:
    """Returns grey [H, W], uint8 or floating-point with NaN where there is padding, or RGB uint8 [H, W, 3]; and notes.

    `kind` is the field that holds the pixels, which decides the names of the padding fields.
    """
    interpretation = str(fields.PhotometricInterpretation)
    if interpretation == "PALETTE COLOR":
        return _palette(stored, fields), ()
    if stored.ndim == 3:
        return _to_eight_bit(stored[..., :3], fields), ()
    padding, padding_notes = _padding(stored, fields, kind)
    padding |= np.isnan(stored)
    dark = interpretation == "MONOCHROME1" or fields.get("PresentationLUTShape") == "INVERSE"
    values, notes = _windowed(stored, padding, fields, dark)
    if dark:
        values = 255 - values if values.dtype == np.uint8 else _mirrored(values, padding)
    return _without(values, padding), (*padding_notes, *notes)


def _palette(stored: Values, fields: Dataset) -> Pixels:
    """Looks up the colours; their alpha is dropped."""
    descriptor = numbers(fields, "RedPaletteColorLookupTableDescriptor", 3)
    if descriptor and descriptor[2] == 8 and descriptor[0] not in range(1, 257):
        raise ImageError(
            "its palette has more than 256 entries of 8 bits, which cannot be read; export it as grey or RGB"
        )
    require(fields, "RedPaletteColorLookupTableDescriptor")
    try:
        colours = apply_color_lut(stored, fields)[..., :3]
    except Exception:  # pydicom raises anything for a table that is not one  # noqa: BLE001
        raise ImageError("its palette is incomplete or damaged") from None
    return (
        (colours >> 8).astype(np.uint8)
        if colours.dtype == np.uint16 and colours.max() > 255
        else colours.astype(np.uint8)
    )


def _to_eight_bit(colours: Values, fields: Dataset) -> Pixels:
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    return to_bytes(colours.astype(np.float64), 0, float(2 ** int(fields.BitsStored) - 1))


def _padding(stored: Values, fields: Dataset, kind: str) -> tuple[Mask, tuple[str, ...]]:
    """Returns where there is padding, by the fields or, where they mention none, by the intensities."""
    value_name, limit_name = PADDINGS[kind]
    value = _as_stored(number(fields, value_name), stored)
    if value is None:
        return _undeclared_padding(stored)
    limit = _as_stored(number(fields, limit_name), stored)
    low, high = sorted((value, value if limit is None else limit))
    mask = (stored >= low) & (stored <= high)
    if mask.mean() > 1 - MIN_LEFT:
        return np.zeros(stored.shape, bool), (f"its {value_name} would leave nothing of the image and was ignored",)
    return mask, ("pixel padding left out",) if mask.any() else ()


def _as_stored(value: float | None, stored: Values) -> float | None:
    """Returns the value as the type of the pixels has it: writers confuse signed and unsigned."""
    if value is None or stored.dtype.kind not in "iu":
        return value
    return float(np.array(int(value)).astype(stored.dtype))


def _undeclared_padding(stored: Values) -> tuple[Mask, tuple[str, ...]]:
    """Finds a negative lowest value far below all others, or a frequent highest one far above them."""
    low, high = float(np.nanmin(stored)), float(np.nanmax(stored))
    above, below = stored[stored > low], stored[stored < high]
    if low < 0 and above.size and float(above.min()) - low > LOW_GAP * (high - float(above.min())):
        return stored == low, (f"pixels of the value {low:g}, far below all others, left out as padding",)
    mask: Mask = stored == high
    if below.size and np.ptp(below) > 0 and mask.mean() > MIN_LEFT:
        top = float(below.max())
        if high - top > HIGH_GAP * (top - low):
            return mask, (f"pixels of the value {high:g}, far above all others, left out as padding",)
    return np.zeros(stored.shape, bool), ()


@dataclass(frozen=True)
class _Drawn:
    """The image through one window or lookup table, and how well that suits it."""

    pixels: Pixels
    clipped: float
    """Fraction of the head that is black or white."""
    levels: float
    """Grey levels between the darkest and the brightest of the head."""
    of_stored: bool
    """Whether it was applied to the stored values although there is a rescale."""


def _windowed(stored: Values, padding: Mask, fields: Dataset, dark: bool) -> tuple[Values, tuple[str, ...]]:
    """Applies the window that suits the image, or none; returns rescaled values if none does."""
    rescaled, notes = _rescaled(stored, fields)
    head = _head(rescaled, padding, dark)
    drawn = list(_candidates(stored, rescaled, fields, head))
    good = [each for each in drawn if each.levels >= MIN_LEVELS]
    best = next(
        (each for each in good if each.clipped <= FITTING), min(good, key=lambda each: each.clipped, default=None)
    )
    if best is None or best.clipped > ACCEPTABLE:
        return rescaled, (*notes, *_why_none(drawn, fields))
    if best.of_stored:
        notes = (*notes, "its window suits the stored values, not the rescaled ones, and was applied to them")
    return best.pixels, notes


def _why_none(drawn: list[_Drawn], fields: Dataset) -> tuple[str, ...]:
    if not any(name in fields for name in WINDOWS):
        return ()
    if not drawn:
        return ("its window makes no sense and was ignored; intensities scaled by percentiles",)
    first = drawn[0]
    if first.levels < MIN_LEVELS:
        return ("its window leaves the image without contrast and was ignored; intensities scaled by percentiles",)
    return (
        f"its window would clip {first.clipped:.0%} of the head and was ignored; intensities scaled by percentiles",
    )


def _rescaled(stored: Values, fields: Dataset) -> tuple[Values, tuple[str, ...]]:
    """Applies the modality's lookup table, or slope and intercept."""
    if "ModalityLUTSequence" not in fields:
        slope, intercept = number(fields, "RescaleSlope"), number(fields, "RescaleIntercept")
        if not slope or intercept is None:
            given = "RescaleSlope" in fields and "RescaleIntercept" in fields
            return stored, ("its rescale makes no sense and was ignored",) if given else ()
        if (slope, intercept) == (1, 0):
            return stored, ()
    return apply_modality_lut(stored, fields), ()


def _head(values: Values, padding: Mask, dark: bool) -> Mask:
    """Returns where the head is: what is not background, by intensity alone."""
    levels = -values.astype(np.float64) if dark else values.astype(np.float64)
    usable = ~padding & np.isfinite(levels)
    if not usable.any():
        return usable
    low, high = np.percentile(levels[usable], (1, 99))
    return usable & (levels > low + HEAD_THRESHOLD * (high - low))


def _candidates(stored: Values, rescaled: Values, fields: Dataset, head: Mask) -> Iterator[_Drawn]:
    """Yields the image through each lookup table and each window of the file, as the standard has it and then misapplied."""
    yield from (_judged(pixels, head, False) for pixels in _drawings(rescaled, fields))
    if rescaled is not stored:
        yield from (_judged(pixels, head, True) for pixels in _drawings(stored, fields))


def _judged(pixels: Pixels, head: Mask, of_stored: bool) -> _Drawn:
    shown = pixels[head]
    if not shown.size:
        return _Drawn(pixels, 1.0, 0.0, of_stored)
    low, high = np.percentile(shown, (1, 99))
    return _Drawn(pixels, float(np.mean((shown == 0) | (shown == 255))), float(high - low), of_stored)


def _drawings(values: Values, fields: Dataset) -> Iterator[Pixels]:
    """Yields the image through each lookup table, then through each window. Tables are for whole numbers only."""
    finite = np.nan_to_num(values, posinf=0, neginf=0) if values.dtype.kind == "f" else values
    whole = finite.dtype.kind in "iu" or bool((np.mod(finite, 1) == 0).all())
    if whole:
        for index, table in enumerate(fields.get("VOILUTSequence") or []):
            with contextlib.suppress(Exception):  # an unusable table is one of those that do not suit
                yield to_bytes(apply_voi(finite, fields, index).astype(np.float64), 0, _table_top(table))
    for centre, width in zip(numbers(fields, "WindowCenter") or [], numbers(fields, "WindowWidth") or [], strict=False):
        function = str(fields.get("VOILUTFunction") or "LINEAR").upper()
        if width > 0:
            yield _through(finite, centre, width, function if whole or function != "LINEAR" else "LINEAR_EXACT")


def _table_top(table: Dataset) -> float:
    """Returns the largest value in a table, which is often below what its bits allow."""
    data = table["LUTData"].value
    return float(np.max(np.frombuffer(data, "<u2") if isinstance(data, bytes) else data))


def _through(values: Values, centre: float, width: float, function: str) -> Pixels:
    """Applies a window (PS3.3, C.11.2.1.2 and C.11.2.1.3) with pydicom; black is 0, white 255."""
    window = Dataset()
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    window.WindowCenter, window.WindowWidth = centre, width
    window.VOILUTFunction = (
        function if function == "SIGMOID" or (function == "LINEAR" and width >= 2) else "LINEAR_EXACT"
    )
    with np.errstate(over="ignore"):
        return np.rint(apply_windowing(values, window)).astype(np.uint8)


def _mirrored(values: Values, padding: Mask) -> Values:
    """Turns dark into light within the range of the image."""
    levels = values.astype(np.float64)
    kept = levels[~padding & np.isfinite(levels)]
    mirrored: Values = kept.max(initial=-np.inf) + kept.min(initial=np.inf) - levels
    return mirrored


def _without(values: Values, padding: Mask) -> Values:
    """Removes the padding: NaN, or black in an image of 8 bits."""
    if not padding.any():
        return values
    if values.dtype == np.uint8:
        return np.where(padding, np.uint8(0), values)
    return np.where(padding, np.nan, values.astype(np.float32))
