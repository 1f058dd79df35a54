"""Reads the header of a DICOM image and refuses from it what cannot, or must not, be decoded."""

from dataclasses import dataclass

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from medisync.errors import ImageError
from medisync.imaging.dicom_codecs import require_decoder
from medisync.imaging.dicom_fields import INTEGERS, REQUIRED, frame_fields, number, require
from medisync.imaging.dicom_file import PIXELS, Parsed, parse
from medisync.imaging.limits import check_pixels

MAX_FRAMES = 20_000
"""Most frames of a file; the longest functional series have a few thousand images."""

SAMPLES, BITS = (1, 3, 4), (1, 8, 16, 32, 64)
"""Numbers of colours and of bits that can be read."""

INTERPRETATIONS = (
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
)
"""Photometric interpretations that can be read; the others are of video, or retired."""

FRAGMENT_BYTES = 8
"""Least size of a compressed frame: the header of an item."""


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """A DICOM image that is known to be complete and readable, as far as its header tells."""

    data: bytes
    fields: FileDataset
    """All fields before the pixels."""
    kind: str
    """Name of the field that holds the pixels."""
    count: int
    """Number of frames."""

    @property
    def syntax(self) -> UID:
        return UID(self.fields.file_meta.TransferSyntaxUID)


def read_header(data: bytes) -> ImageHeader:
    """Reads a header. Raises ImageError, in one sentence, for what cannot be decoded."""
    parsed = parse(data, header_only=True)
    kind = next((name for name, tag in PIXELS.items() if tag == parsed.pixel_tag), None)
    if kind is None:
        damaged = "the DICOM file is damaged: it is cut off before its pixels"
        raise ImageError(damaged if parsed.is_cut else "the DICOM file holds no image")
    require_decoder(UID(parsed.fields.file_meta.TransferSyntaxUID))
    _check_fields(parsed.fields, kind)
    header = ImageHeader(data, parsed.fields, kind, _count(parsed, len(data)))
    if parsed.is_cut:
        raise ImageError("the DICOM file is damaged: it is cut off before its last pixels")
    return header


def _check_fields(file: FileDataset, kind: str) -> None:
    fields, _ = frame_fields(file, 0)
    require(fields, *REQUIRED, *(INTEGERS if kind == "PixelData" else ()))
    rows, columns = (int(number(fields, name) or 0) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise ImageError(f"it claims an image of {columns} x {rows} pixels")
    check_pixels(columns, rows)
    for name, allowed in (("SamplesPerPixel", SAMPLES), ("BitsAllocated", BITS)):
        if (found := number(fields, name)) not in allowed:
            raise ImageError(f"its {name} is {found or 0:g}, expected one of {', '.join(map(str, allowed))}")
    if fields.PhotometricInterpretation not in INTERPRETATIONS:
        raise ImageError(f"its PhotometricInterpretation cannot be read, expected one of {', '.join(INTERPRETATIONS)}")


def _count(parsed: Parsed, size: int) -> int:
    """Returns the number of frames. Raises ImageError if the file cannot hold that many."""
    file, room = parsed.fields, parsed.pixel_bytes
    claimed = number(file, "NumberOfFrames")
    if claimed is None and "NumberOfFrames" in file and file.get_item("NumberOfFrames").value:
        raise ImageError("its NumberOfFrames is not a number")
    count = 1 if claimed is None else int(claimed)
    samples = 2 if file.PhotometricInterpretation == "YBR_FULL_422" else int(file.SamplesPerPixel)
    least = int(file.Rows) * int(file.Columns) * samples * int(file.BitsAllocated) // 8
    if UID(file.file_meta.TransferSyntaxUID).is_encapsulated:
        room, least = size, FRAGMENT_BYTES
    elif room is None:
        raise ImageError(
            "its pixels are compressed, but its transfer syntax is missing or wrong; export it uncompressed"
        )
    if not 0 < count <= MAX_FRAMES or count * least > room:
        said = f"{count} frame{'s' * (count != 1)} of {file.Columns} x {file.Rows} pixels"
        raise ImageError(f"the DICOM file is damaged: it claims {said}, and does not hold as many")
    return count
