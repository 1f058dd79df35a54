"""Tells which DICOM images belong together, and puts them in order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from medisync.errors import ImageError
from medisync.imaging.dicom_fields import REPEATS, number, numbers
from medisync.imaging.dicom_file import parse
from medisync.imaging.dicom_geometry import normal

ORDER = ("ImagePositionPatient", "SliceLocation", "InstanceNumber")
"""Fields that say where an image stands in its series; images without any are no volume."""

DESCRIBED = [Tag(name) for name in ("ImageType", "SeriesInstanceUID", "NumberOfFrames", *ORDER)]

SAME_DIRECTION = 0.98
"""Smallest cosine between the normals of images of one stack."""

SAME_PLACE = 0.01
"""Images no farther apart than this, in mm, are of one place."""


@dataclass(frozen=True)
class Header:
    """What is known of a DICOM file without its pixels."""

    series: str
    """Key of its series, the same for all its slices; empty for a file that is a scan of its own."""
    has_image: bool
    """False for a DICOMDIR, a report, a presentation state and whatever else has no pixels."""
    is_placed: bool
    """Whether it says where it stands in its series."""


def describe(data: bytes) -> Header:
    """Reads the header of a DICOM file. Raises ImageError if it cannot be parsed.

    A file with several frames, and a mosaic, is a volume and therefore a scan of its own. The key is a hash: a series'
    UID identifies an examination.
    """
    try:
        parsed = parse(data, header_only=True, only=DESCRIBED)
        fields = parsed.fields
        uid = str(fields.get("SeriesInstanceUID") or "")
        alone = (number(fields, "NumberOfFrames") or 1) > 1 or "MOSAIC" in str(fields.get("ImageType"))
    except ImageError:
        raise
    except Exception as error:  # arbitrary bytes make pydicom raise anything  # noqa: BLE001
        raise ImageError(f"the DICOM header is damaged ({type(error).__name__})") from None
    is_placed = any(fields.get(name) not in (None, "") for name in ORDER)
    key = hashlib.sha256(uid.encode()).hexdigest()[:16]
    return Header("" if alone or not uid else key, parsed.pixel_tag is not None, is_placed)


def arrange(images: Sequence[Dataset]) -> tuple[list[int], tuple[str, ...]]:
    """Orders the images of a volume by position, from their fields; returns indices, and notes on what is left out.

    Of several stacks the largest counts, and of several images of one place (echoes, time points) the first. Positions are
    taken along the normal; where they are unknown, by SliceLocation, by InstanceNumber, or as the images come. Images that
    nothing tells apart, such as the frames of a file without functional groups, stay as they come.
    """
    stack = _largest_stack(images)
    notes = []
    if left := len(images) - len(stack):
        notes.append(f"{left} of {len(images)} images have another orientation and were left out")
    places = _places([images[index] for index in stack])
    if places is None:
        return sorted(stack, key=lambda index: number(images[index], "InstanceNumber") or 0), tuple(notes)
    if len({(place, _repeat(images[index])) for place, index in zip(places, stack, strict=True)}) == 1:
        return stack, tuple(notes)
    ordered = sorted(zip(places, stack, strict=True), key=lambda pair: (pair[0], _repeat(images[pair[1]]), pair[1]))
    first = [next(group)[1] for _, group in groupby(ordered, key=lambda pair: pair[0])]
    if left := len(stack) - len(first):
        notes.append(
            f"{left} of {len(stack)} images show a place that another shows too (echoes, time points) and were left out"
        )
    return first, tuple(notes)


def _largest_stack(images: Sequence[Dataset]) -> list[int]:
    """Returns the indices of the largest group of parallel images; of equal ones that which is the most axial."""
    stacks: list[tuple[np.ndarray | None, list[int]]] = []
    for index, image in enumerate(images):
        across = normal(image)
        for direction, members in stacks:
            if _parallel(direction, across):
                members.append(index)
                break
        else:
            stacks.append((across, [index]))
    return max(stacks, key=lambda stack: (len(stack[1]), 0 if stack[0] is None else abs(stack[0][2])))[1]


def _parallel(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(float(first @ second)) > SAME_DIRECTION


def _places(images: Sequence[Dataset]) -> list[float] | None:
    """Returns for each image its place along the normal, in mm and rounded so that those of one place are equal."""
    across = normal(images[0])
    positions = [numbers(image, "ImagePositionPatient", 3) for image in images]
    if across is not None and all(positions):
        places = [float(across @ np.array(position)) for position in positions]
    else:
        locations = [number(image, "SliceLocation") for image in images]
        if None in locations:
            return None
        places = [float(location) for location in locations if location is not None]
    return [round(place / SAME_PLACE) * SAME_PLACE for place in places]


def _repeat(image: Dataset) -> tuple[float, ...]:
    return tuple(number(image, name) or 0.0 for name in REPEATS)
