"""Reads the header of each file of an export: what is needed to select it, and why a file is no image of a scan."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from medisync.errors import ImageError
from medisync.imaging import foreign
from medisync.imaging.dicom_fields import frame_fields, number
from medisync.imaging.dicom_file import Parsed, parse
from medisync.imaging.dicom_header import MAX_FRAMES
from medisync.imaging.formats import (
    HEAD_BYTES,
    decompressed,
    is_dicom,
    is_dicom_image,
    is_dicomdir,
    is_nifti,
    is_picture,
)
from medisync.imaging.scan_files import DICOM_HEADER_BYTES, Entry, file_on_disk
from medisync.ingest.rules import Traits

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Begins the classes of pictures that were no part of an acquisition (PS3.6): screenshots, scanned paper, photographs."""

MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""Classes of MR images: classic, enhanced, converted from classic to enhanced."""

CAPTURED = ("SCREEN", "CAPTURE", "SNAPSHOT", "PASTED")
"""Parts of words with which ImageType calls a picture of a screen."""

LONG_NUMBER = re.compile(r"(?<!JPEG )\d[\d.,]{2,}\d")
"""Four digits and more, as dates and patients' numbers have."""

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "PatientID")
KINDS = (
    *("SOPClassUID", "Modality", "ImageType", "ConversionType", "BurnedInAnnotation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
)
TRAITS = (
    *("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "BodyPartExamined"),
    *("ContrastBolusAgent", "EchoTime", "RepetitionTime", "InversionTime"),
)
READ = [Tag(name) for name in (*IDENTIFIERS, *KINDS, *TRAITS, *FUNCTIONAL_GROUPS)]
"""The fields that are read at all. None of their values but numbers leaves this process as it is."""


@dataclass(frozen=True)
class Rejected:
    """Why a file is not taken; neither quotes the file, its name or its header."""

    kind: str
    """A noun by which such files are counted, such as "secondary capture"."""
    detail: str = ""


def refused(kind: str, problem: str) -> Rejected:
    """Returns why imaging refused a file, without the long numbers that it quotes: a field may hold something else."""
    return Rejected(kind, LONG_NUMBER.sub("...", problem))


@dataclass(frozen=True)
class Image:
    """A DICOM image of an MR scan. Its identifiers stay in memory: they are compared, hashed and never shown."""

    path: PurePosixPath = field(repr=False)
    """Relative to the folder of the export."""
    study: str = field(repr=False)
    series: str = field(repr=False)
    instance: str = field(repr=False)
    accession: str = field(repr=False)
    patient: str = field(repr=False)
    frames: int
    traits: Traits


def examine(file: tuple[Path, PurePosixPath]) -> Image | Rejected:
    """Returns the image in a file, given the folder of the export and the file's path in it, or why it is none."""
    root, path = file
    entry = file_on_disk(root / path)
    try:
        if reason := _why_no_dicom_image(entry):
            return reason
        parsed = _parse(entry)
        return _why_not_taken(parsed, entry) or _image(path, parsed.fields)
    except ImageError as error:
        return refused("unreadable file", str(error))
    except Exception as error:  # arbitrary bytes make pydicom raise anything, which may quote them  # noqa: BLE001
        return Rejected("damaged DICOM file", type(error).__name__)


def _why_no_dicom_image(entry: Entry) -> Rejected | None:
    head = entry.read_head(HEAD_BYTES)
    if not head:
        return Rejected("empty file")
    if is_dicomdir(head):
        return Rejected("DICOMDIR, a table of contents")
    if is_dicom(head):
        return None
    if is_picture(head):
        return Rejected("picture of another format than DICOM")
    return Rejected("NIfTI volume" if is_nifti(decompressed(head)) else foreign.name_of(head))


def _parse(entry: Entry) -> Parsed:
    """Reads as much of the file as its header needs."""
    start = entry.read_head(DICOM_HEADER_BYTES)
    with suppress(Exception):  # a field that is cut by the limit; the whole file says what is wrong
        if (parsed := parse(start, header_only=True, only=READ)).pixel_tag is not None:
            return parsed
    return parse(start if len(start) == entry.size else entry.read(), header_only=True, only=READ)


def _why_not_taken(parsed: Parsed, entry: Entry) -> Rejected | None:
    fields, kind = parsed.fields, _text(parsed.fields, "SOPClassUID")
    types = _words(fields, "ImageType")
    if kind.startswith(SECONDARY_CAPTURE) or _text(fields, "ConversionType") or any(map(_is_captured, types)):
        return Rejected("secondary capture, such as a screenshot")
    if parsed.pixel_tag is None:
        is_damaged = is_dicom_image(entry.read_head(HEAD_BYTES))
        return (
            Rejected("damaged DICOM file", "it has no pixels")
            if is_damaged
            else Rejected("DICOM file without an image")
        )
    if _text(fields, "Modality").upper() != "MR" and not (not _text(fields, "Modality") and kind in MR_CLASSES):
        return Rejected("image of another modality than MR")
    if _text(fields, "BurnedInAnnotation").upper() == "YES":
        return Rejected("image in which text is burned in", "its BurnedInAnnotation is YES")
    if number(fields, "SamplesPerPixel") not in (None, 1) or "PALETTE" in _text(fields, "PhotometricInterpretation"):
        return Rejected("image in colour", "MR scans are grey; colour comes from maps, fusion and screenshots")
    if "MOSAIC" in types:
        return Rejected("mosaic of a functional series")
    missing = [name for name in IDENTIFIERS[:3] if not _text(fields, name)]
    return Rejected("image without its UIDs", f"it lacks {', '.join(missing)}") if missing else None


def _is_captured(word: str) -> bool:
    return any(part in word for part in CAPTURED)


def _image(path: PurePosixPath, fields: Dataset) -> Image:
    study, series, instance, accession, patient = (_text(fields, name) for name in IDENTIFIERS)
    frames = int(number(fields, "NumberOfFrames") or 1)
    if not 0 < frames <= MAX_FRAMES:
        raise ImageError(f"it claims more than {MAX_FRAMES:,} frames, or none")
    return Image(path, study, series, instance, accession, patient, frames, _traits(fields))


def _traits(fields: Dataset) -> Traits:
    first, _ = frame_fields(fields, 0)  # type: ignore[arg-type]
    description = _text(fields, "SeriesDescription") or _text(fields, "ProtocolName")
    names = [description, _text(fields, "SequenceName"), _text(fields, "PulseSequenceName")]
    return Traits(
        text="\n".join(names).replace("_", " "),
        image_type=frozenset(_words(fields, "ImageType")),
        body_part=_text(fields, "BodyPartExamined"),
        contrast_agent=_text(fields, "ContrastBolusAgent"),
        echo_time=number(first, "EchoTime"),
        repetition_time=number(fields, "RepetitionTime"),
        inversion_time=number(fields, "InversionTime"),
    )


def _text(fields: Dataset, name: str) -> str:
    return str(fields.get(name) or "").strip()


def _words(fields: Dataset, name: str) -> list[str]:
    value = fields.get(name) or []
    return [str(each).strip().upper() for each in ([value] if isinstance(value, str) else value)]
