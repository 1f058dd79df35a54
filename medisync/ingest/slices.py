"""Picks the slices of a stack and draws them as PNG: the pixels of imaging's one path, and nothing else of the file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image as Picture
from pydicom.dataset import Dataset

from medisync.errors import ImageError
from medisync.imaging.decoding import Scan, file_bytes, open_scan
from medisync.imaging.dicom_fields import frame_fields, number
from medisync.imaging.dicom_header import read_header
from medisync.imaging.dicom_series import arrange
from medisync.imaging.intensities import Pixels
from medisync.ingest.labels import Slices

Place = tuple[int, int]
"""Which file of a stack, and which frame of it, from 0."""


@dataclass(frozen=True)
class Task:
    """A stack to be drawn."""

    files: tuple[Path, ...] = field(repr=False)
    lesion: tuple[Slices, ...]
    """Slices that show the lesion; empty if nobody said."""
    known: frozenset[Place]
    """Slices that the dataset has already; they are picked, but not drawn again."""


@dataclass(frozen=True)
class Drawn:
    place: Place
    png: bytes
    """Empty for a slice that is known."""


@dataclass(frozen=True)
class Drawing:
    """What became of a stack."""

    slices: Sequence[Drawn]
    unreadable: Sequence[tuple[int, str]]
    """Files that cannot be read, by their place in the task, with the reason."""
    repeated: frozenset[int]
    """Files that show another orientation than most, or a place that another file shows too."""
    misses_lesion: bool
    """Whether none of the slices has a number that the table gives; nothing is drawn then."""


@dataclass(frozen=True)
class _Frame:
    place: Place
    fields: Dataset
    number: float
    """Its number in the viewer of a PACS."""


def draw(task: Task) -> Drawing:
    """Returns all slices with the lesion, or where they are not known the middle third in spatial order, rounded up."""
    frames, unreadable = _frames(task.files)
    ordered = [frames[index] for index in arrange([frame.fields for frame in frames])[0]] if frames else []
    picked = _with_lesion(ordered, task.lesion) if task.lesion else _middle_third(ordered)
    if frames and task.lesion and not picked:
        return Drawing([], unreadable, frozenset(), misses_lesion=True)
    shown = {frame.place[0] for frame in ordered}
    repeated = frozenset(frame.place[0] for frame in frames) - shown
    places = {frame.place: index for index, frame in enumerate(ordered)}
    drawn = []
    open_file = lru_cache(maxsize=1)(lambda file: open_scan([file_bytes(task.files[file])]))
    for frame in picked:
        try:
            png = b"" if frame.place in task.known else _png(open_file(frame.place[0]), places[frame.place])
            drawn.append(Drawn(frame.place, png))
        except ImageError as error:
            unreadable.append((frame.place[0], str(error)))
    return Drawing(drawn, unreadable, repeated, misses_lesion=False)


def _frames(files: Sequence[Path]) -> tuple[list[_Frame], list[tuple[int, str]]]:
    """Returns the frames of the files that can be read, and which cannot."""
    frames: list[_Frame] = []
    unreadable = []
    for index, file in enumerate(files):
        try:
            frames += _frames_of(index, file)
        except ImageError as error:
            unreadable.append((index, str(error)))
        except Exception as error:  # arbitrary bytes make pydicom raise anything, which may quote them  # noqa: BLE001
            unreadable.append((index, f"the DICOM file is damaged ({type(error).__name__})"))
    return frames, unreadable


def _frames_of(index: int, file: Path) -> list[_Frame]:
    header = read_header(file_bytes(file))
    fields = [frame_fields(header.fields, frame)[0] for frame in range(header.count)]
    if header.count > 1:
        return [_Frame((index, frame), each, frame + 1) for frame, each in enumerate(fields)]
    return [_Frame((index, 0), fields[0], number(fields[0], "InstanceNumber") or 0)]


def _with_lesion(frames: Sequence[_Frame], lesion: Sequence[Slices]) -> list[_Frame]:
    return [frame for frame in frames if any(frame.number in slices for slices in lesion)]


def _middle_third(frames: Sequence[_Frame]) -> Sequence[_Frame]:
    left_out = len(frames) // 3
    return frames[left_out : len(frames) - left_out]


def _png(scan: Scan, place: int) -> bytes:
    """Draws a slice of a file; `place` is its place in the stack, which is that in a file of several frames."""
    return _encoded(scan.decode_slice(place if scan.count > 1 else 0).pixels)


def _encoded(pixels: Pixels) -> bytes:
    """Writes no metadata: a PNG of Pillow holds the pixels alone."""
    stream = io.BytesIO()
    Picture.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
