"""The limits that every input file is held to, whatever its format."""

from medisync.errors import ImageError

MAX_BYTES = 256 * 2**20
"""Largest size of a file, and of a volume once decompressed."""

MAX_SERIES_BYTES = 512 * 2**20
"""Largest size of all files of a DICOM series together."""

MAX_PIXELS = 17_000_000
"""Largest image or slice: a little over 4096 x 4096, which decodes within 300 MB of memory in any colour mode."""

MIN_SIDE = 32
"""Shortest side in pixels."""

MAX_ASPECT = 4.0
"""Largest ratio of the longer side to the shorter one."""

MAX_PIXEL_ASPECT = 20.0
"""Largest ratio of the sides of a pixel, or of slice and pixel spacing, that is believed."""

MIN_CONTRAST = 8
"""Fewest grey levels between the darkest and the brightest percent of the pixels of an image with content."""


def check_geometry(width: int, height: int) -> None:
    """Raises ImageError for a size that no scan has."""
    check_pixels(width, height)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT:g} times the other; not a scan")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small, at least {MIN_SIDE} x {MIN_SIDE} is needed")


def check_pixels(width: int, height: int) -> None:
    """Raises ImageError for more pixels than the limit."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 10**6} million pixels")
