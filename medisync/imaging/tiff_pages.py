"""Finds the pages of a TIFF file that are slices of one stack."""

from typing import Any, Literal

from medisync.errors import ImageError

MAX_PAGES, MAX_ENTRIES = 1000, 60_000
"""Most pages of a file, and most entries of all its directories: a hostile file could have millions."""

SUBFILE_TYPE, REDUCED = 254, 1
"""The tag, and its value for a thumbnail or another reduced copy (TIFF 6.0, section 8)."""


def slice_pages(image: Any, data: bytes) -> tuple[list[int], tuple[str, ...]]:
    """Returns the pages of one size and mode, of which there are most, and a note if others are left out.

    Others are thumbnails, overviews, and the smaller copies of a pyramid. `image` is Pillow's, of the file `data`.
    Raises ImageError for more pages than the limit.
    """
    count = _count_pages(data)
    found: dict[tuple[int, int, str], list[int]] = {}
    for page in range(count):
        image.seek(page)
        if not image.tag_v2.get(SUBFILE_TYPE, 0) & REDUCED:
            found.setdefault((*image.size, image.mode), []).append(page)
    _, pages = max(found.items(), key=lambda each: (len(each[1]), each[0][0] * each[0][1]), default=((), [0]))
    left_out = count - len(pages)
    return pages, (f"{left_out} pages of another size or kind left out",) if left_out else ()


def _count_pages(data: bytes) -> int:
    """Counts directories along their chain, which a damaged or hostile file may bend into a circle."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    wide = data[2:4] in (b"+\x00", b"\x00+")
    counter, entry, pointer = (8, 20, 8) if wide else (2, 12, 4)

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    place, entries, seen = number(8 if wide else 4, pointer), 0, set[int]()
    while place and place not in seen:
        if place >= len(data):
            raise ImageError("the image is damaged (a page lies beyond the end of the file)")
        seen.add(place)
        entries += number(place, counter)
        if len(seen) > MAX_PAGES or entries > MAX_ENTRIES:
            raise ImageError(f"the TIFF file has more than {MAX_PAGES} pages or {MAX_ENTRIES} entries; split it")
        place = number(place + counter + entry * number(place, counter), pointer)
    return max(1, len(seen))
