"""DICOM files as they come: each is read, or refused with the true reason."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicoms import HEAD, numbered, read
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from rewrapped import dicom

from medisync.errors import ImageError
from medisync.imaging import dicom_file
from medisync.imaging.dicom_series import describe


def rewritten(data: bytes, **encoding: object) -> bytes:
    """Returns a file without its transfer syntax, written again."""
    file = pydicom.dcmread(io.BytesIO(data))
    del file.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=False, **encoding)
    return stream.getvalue()


# Files as they come


@pytest.mark.parametrize(
    "data",
    [
        dicom(HEAD, meta=False, syntax=ImplicitVRLittleEndian),
        dicom(HEAD, meta=False),
        dicom(HEAD)[128 + 4 :],
        rewritten(dicom(HEAD), implicit_vr=False, little_endian=True),
        rewritten(dicom(HEAD), implicit_vr=True, little_endian=True),
        dicom(HEAD, syntax=DeflatedExplicitVRLittleEndian),
        dicom(HEAD, ImageComments=str(DeflatedExplicitVRLittleEndian)),
    ],
    ids=[
        "bare implicit",
        "bare explicit",
        "no preamble",
        "no syntax",
        "no syntax, implicit",
        "deflated",
        "mentioned",
    ],
)
def test_a_file_is_read_in_whatever_envelope_it_comes(data: bytes) -> None:
    assert np.array_equal(read(data).values, HEAD)
    assert describe(data).has_image


def test_big_endian_files_are_read() -> None:
    little, big = (get_testdata_file(f"MR_small{kind}.dcm", download=False) for kind in ("", "_bigendian"))
    assert np.array_equal(read(Path(str(big)).read_bytes()).values, read(Path(str(little)).read_bytes()).values)


def precise(pixels: NDArray[np.uint16], **options: object) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, bitspersample=12, **options)


@pytest.mark.parametrize(
    ("syntax", "frame", "error"),
    [
        (JPEGLosslessSV1, lambda pixels: precise(pixels, lossless=True, predictor=1), 0),
        (JPEGExtended12Bit, lambda pixels: precise(pixels, level=100), 8),
        (JPEGLSLossless, imagecodecs.jpegls_encode, 0),
    ],
    ids=["lossless JPEG", "JPEG of 12 bits", "JPEG-LS"],
)
def test_compressed_pixels_are_decoded_and_damage_is_named(syntax: str, frame: object, error: int) -> None:
    compressed = frame(HEAD)
    fields = {"syntax": syntax, "BitsStored": 12, "HighBit": 11}
    found = read(dicom(HEAD, PixelData=encapsulate([compressed]), **fields)).values
    assert np.abs(found.astype(int) - HEAD).max() <= error
    cut = dicom(HEAD, PixelData=encapsulate([compressed[:200]]), **fields)
    with pytest.raises(ImageError, match=f"its pixels are damaged: they cannot be decoded as {syntax.name[:12]}"):
        read(cut)
    with pytest.raises(ImageError, match="its pixels are damaged"):
        read(dicom(HEAD[:40], PixelData=encapsulate([compressed]), **fields))


# Refusals


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (dicom(HEAD, Rows=None), "lacks Rows, without which"),
        (dicom(HEAD, BitsStored=None, PhotometricInterpretation=None), "lacks PhotometricInterpretation, BitsStored"),
        (dicom(HEAD, PixelData=None), "holds no image"),
        (dicom(HEAD)[:-10], "damaged: it is cut off before its last pixels"),
        (dicom(HEAD)[:500], "damaged: it is cut off before its pixels"),
        (dicom(HEAD, PixelData=b"\0\0"), "damaged: it claims 1 frame of 48 x 64 pixels, and does not hold as many"),
        (dicom(numbered(1, 2), NumberOfFrames=10**9), "claims 1000000000 frames"),
        (dicom(HEAD, Rows=60000, Columns=60000), "60000 x 60000 pixels, more than the limit"),
        (dicom(HEAD, NumberOfFrames=1).replace(b"IS\2\x001 ", b"IS\2\x001A"), "NumberOfFrames is not a number"),
        (dicom(HEAD, Rows=0), "claims an image of 48 x 0 pixels"),
        (dicom(HEAD, PhotometricInterpretation="PALETTE COLOR"), "lacks RedPaletteColorLookupTableDescriptor"),
        (dicom(HEAD, SamplesPerPixel=7), "its SamplesPerPixel is 7, expected one of 1, 3, 4"),
        (dicom(HEAD, BitsAllocated=12), "its BitsAllocated is 12, expected one of 1, 8, 16"),
        (dicom(HEAD, PhotometricInterpretation="HSV"), "its PhotometricInterpretation cannot be read, expected one of"),
        (
            dicom(HEAD, syntax="1.2.840.10008.1.2.4.201", PixelData=encapsulate([b"\xff\x4f"])),
            "no decoder is installed for its transfer syntax, High-Throughput JPEG 2000.*install pylibjpeg and",
        ),
        (dicom(HEAD, syntax=MPEG4HP41, PixelData=encapsulate([b"video"])), "MPEG-4.*is not one of still images"),
        (dicom(HEAD, syntax="1.2.3.4"), "which is not a DICOM one that pydicom knows"),
        (
            rewritten(
                dicom(HEAD, syntax=JPEGLSLossless, PixelData=encapsulate([b"\xff\xd8"])),
                implicit_vr=False,
                little_endian=True,
            ),
            "its pixels are compressed, but its transfer syntax is missing or wrong",
        ),
    ],
)
def test_the_true_reason_is_given(data: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as refused:
        read(data)
    assert "Nobody" not in str(refused.value)


def test_a_deflated_bomb_is_refused_before_it_is_inflated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "MAX_BYTES", 5000)
    bomb = dicom(HEAD, syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(ImageError, match="more than the limit of 0 MB once inflated"):
        read(bomb)
