"""The fields of a DICOM file that concern its pixels, for one frame, from wherever the standard lets them stand."""

import math
from collections.abc import Iterator

from pydicom.dataset import Dataset, FileDataset

from medisync.errors import ImageError

WINDOWS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
RESCALES = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
PADDINGS = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}
PALETTES = tuple(
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
PLACES = ("ImageOrientationPatient", "ImagePositionPatient", "PatientOrientation", "SliceLocation")
REPEATS = ("EchoNumbers", "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
"""What tells images at one position apart, in the order in which the first of them is chosen."""

REQUIRED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
"""What every image must have (PS3.3, C.7.6.3)."""
INTEGERS = ("BitsStored", "PixelRepresentation")
"""What every image but one of floating-point numbers must have besides."""

USED = (
    *REQUIRED,
    *INTEGERS,
    *("HighBit", "PresentationLUTShape"),
    *WINDOWS,
    *RESCALES,
    *(name for names in PADDINGS.values() for name in names),
    *PALETTES,
    *SPACINGS,
    *PLACES,
    *REPEATS,
)

MACROS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameContentSequence",
    "MREchoSequence",
)
"""The functional groups that hold such fields in enhanced multi-frame files (PS3.3, C.7.6.16)."""

OTHER_NAMES = {"EffectiveEchoTime": "EchoTime", "TemporalPositionIndex": "TemporalPositionIdentifier"}
"""What functional groups call fields that have another name elsewhere."""


def frame_fields(file: FileDataset, index: int) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the fields that hold for a frame, and the names of those whose values cannot be parsed.

    A frame's own functional groups come before the shared ones, and these before the file's fields.
    """
    merged, unusable = Dataset(), []
    implicit, little_endian = file.original_encoding
    merged.set_original_encoding(implicit, little_endian)
    for source in (file, *_functional_groups(file, index)):
        for name in USED:
            try:
                if name in source and source[name].value not in (None, ""):
                    merged[name] = source[name]
            except Exception:  # pydicom raises anything for a value that is not of its type  # noqa: BLE001
                unusable.append(name)
        for name, usual in OTHER_NAMES.items():
            if name in source:
                setattr(merged, usual, source[name].value)
    return merged, tuple(unusable)


def _functional_groups(file: FileDataset, index: int) -> Iterator[Dataset]:
    shared, per_frame = (
        file.get(name) or [] for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    )
    for groups in (*shared[:1], *per_frame[index : index + 1]):
        for name in MACROS:
            yield from (groups.get(name) or [])[:1]


def numbers(fields: Dataset, name: str, count: int | None = None) -> list[float] | None:
    """Returns the numbers in a field; None if it is absent, has another count of them, or one that is not finite."""
    try:
        value = fields.get(name)
        found = [float(each) for each in ([value] if isinstance(value, (str, int, float)) else value or [])]
    except Exception:  # pydicom raises anything for a value that is not of its type  # noqa: BLE001
        return None
    usable = found and all(map(math.isfinite, found)) and count in (None, len(found))
    return found if usable else None


def number(fields: Dataset, name: str) -> float | None:
    """Returns the first number in a field, if there is one."""
    found = numbers(fields, name)
    return found[0] if found else None


def require(fields: Dataset, *names: str) -> None:
    """Raises ImageError naming the fields that are missing or cannot be read."""
    if missing := [name for name in names if name not in fields]:
        raise ImageError(f"the DICOM file lacks {', '.join(missing)}, without which its pixels cannot be read")
