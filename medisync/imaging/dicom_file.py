"""Parses DICOM files as they come: also deflated, cut off, without preamble, without file meta, without transfer syntax."""

import io
import logging
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medisync.errors import ImageError
from medisync.imaging.limits import MAX_BYTES

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote the file, which may name a patient
config.settings.reading_validation_mode = (
    config.IGNORE
)  # of the fields, those that are used are checked where they are used

PIXELS = {"PixelData": 0x7FE00010, "FloatPixelData": 0x7FE00008, "DoubleFloatPixelData": 0x7FE00009}
"""The fields that may hold the pixels, with their tags."""

UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Parsed:
    """The fields of a file, and what was seen of its pixels on the way."""

    fields: FileDataset
    pixel_tag: int | None
    """Tag of the field that holds the pixels, be it complete or not; None if there is none."""
    pixel_bytes: int | None
    """Length of that field, as the file gives it; None for compressed pixels, whose field is of undefined length."""
    is_cut: bool
    """Whether the file ends before a field does."""


class _Watch:
    """Notes what pydicom meets while it parses: it drops a field that is cut off, or fills it with what there is."""

    def __init__(self, stream: io.BytesIO, header_only: bool) -> None:
        self.stream, self.header_only = stream, header_only
        self.pixel_tag: int | None = None
        self.pixel_bytes: int | None = None
        self.is_cut = False

    def __call__(self, tag: BaseTag, _vr: str | None, length: int) -> bool:
        """Sees a field of the outermost level; returns whether to stop before it."""
        defined = length != UNDEFINED_LENGTH
        if tag in PIXELS.values():
            self.pixel_tag, self.pixel_bytes = tag, length if defined else None
        self.is_cut |= defined and self.stream.tell() + length > self.stream.getbuffer().nbytes
        return self.header_only and self.pixel_tag is not None


def parse(data: bytes, header_only: bool = False, only: Sequence[int] = ()) -> Parsed:
    """Parses a file: all of it, what comes before the pixels (`header_only`), or some tags (`only`).

    The transfer syntax of the result is always set, as far as it can be told. Raises ImageError for a deflated file that
    inflates beyond the limit, and whatever pydicom raises for a damaged one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file
        stream = io.BytesIO(_inflated(data))
        watch = _Watch(stream, header_only)
        fields = read_partial(stream, watch, force=True, specific_tags=list(only) or None)
    if "TransferSyntaxUID" not in fields.file_meta:
        fields.file_meta.TransferSyntaxUID = _guessed_syntax(fields)
    return Parsed(fields, watch.pixel_tag, watch.pixel_bytes, watch.is_cut)


def _guessed_syntax(fields: FileDataset) -> UID:
    is_implicit, is_little_endian = fields.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _inflated(data: bytes) -> bytes:
    """Returns a deflated file inflated and without its file meta, and any other as it is.

    pydicom would inflate it whole before anything can be checked. Raises ImageError beyond the limit.
    """
    stream = io.BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    if data[stream.tell() : stream.tell() + 2] != b"\x02\x00":
        return data
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return data
    inflator = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflator.decompress(data[stream.tell() :], MAX_BYTES)
    if inflator.unconsumed_tail:
        raise ImageError(f"the deflated file has more than the limit of {MAX_BYTES >> 20} MB once inflated")
    return plain
