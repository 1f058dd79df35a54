"""Reads the frame header of a JPEG: its variant, depth, size and number of channels, without decoding it."""

from collections.abc import Mapping
from dataclasses import dataclass

DIFFERENTIAL, ARITHMETIC = "hierarchical JPEG", "JPEG with arithmetic coding"
VARIANTS: Mapping[int, str] = {
    0xC0: "",
    0xC1: "",
    0xC2: "",
    0xC3: "lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), DIFFERENTIAL),
    **dict.fromkeys((0xC9, 0xCA, 0xCB), ARITHMETIC),
    0xF7: "JPEG-LS",
}
"""Markers that begin a frame, with the name of the variant; empty for the usual ones (ITU-T T.81, table B.1; T.87)."""


@dataclass(frozen=True)
class Frame:
    variant: str
    """Empty for the usual ones."""
    bits: int
    """Bits per value."""
    height: int
    width: int
    channels: int


def read_frame(data: bytes) -> Frame | None:
    """Returns the first frame header of a JPEG or JPEG-LS image; None if it has none."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in VARIANTS:
            height, width = (int.from_bytes(data[place + k : place + k + 2]) for k in (5, 7))
            return Frame(VARIANTS[marker], data[place + 4], height, width, data[place + 9])
        place += 2 + int.from_bytes(data[place + 2 : place + 4]) if marker != 0xFF else 1
    return None
