"""NIfTI and Analyze volumes of every kind, made with nibabel: they show what a plain picture of the slice shows."""

import gzip
import io
import struct
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
import pytest
from bad_inputs import PATIENT, dicom, encoded, nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import texture

from medisync.errors import ImageError
from medisync.imaging.decoding import Decoded, decode, open_scan

PICTURE = texture(0, 96)[:80]
PLAIN = decode(encoded(PICTURE))


def stored(picture: np.ndarray, kind: Any = np.int16) -> np.ndarray:
    """Returns [I, J] as a picture [H, W] is stored: the first axis runs to the right, the second to the front."""
    return picture[::-1, ::-1].T.astype(kind)


def resembles(decoded: Decoded, picture: np.ndarray = PICTURE, least: float = 0.99) -> bool:
    same_shape = decoded.pixels.shape == picture.shape
    return same_shape and np.corrcoef(decoded.pixels.ravel(), picture.ravel())[0, 1] > least


def patched(data: bytes, place: int, form: str, *values: float) -> bytes:
    """Returns a file with other numbers in its header."""
    changed = bytearray(data)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


AXIAL = np.stack([stored(PICTURE)] * 3, axis=2)
"""A volume whose axial slices all show the picture."""

PIXDIM, SLOPE, CODES, SECOND_ROW = 80, 112, 252, 296
"""Places in the header of NIfTI-1: the second voxel side is at PIXDIM + 4."""


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "f4", "f8", "c8"])
def test_every_type_of_numbers_shows_the_picture(kind: str) -> None:
    decoded = decode(nifti(np.stack([stored(PICTURE // 2, kind)] * 3, axis=2)))
    assert resembles(decoded)
    assert ("complex values: their magnitude is drawn" in decoded.notes) == (kind == "c8")


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colours_are_read(channels: str) -> None:
    values = np.zeros((*stored(PICTURE).shape, 1), [(name, "u1") for name in channels])
    for name in "RGB":
        values[name][..., 0] = stored(PICTURE)
    decoded = decode(nifti(values))
    assert np.array_equal(decoded.pixels, PICTURE)
    assert decoded.notes == (("transparency ignored",) if channels == "RGBA" else ())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(nifti(stored(PICTURE)), id="two-dimensional"),
        pytest.param(nifti(stored(PICTURE)[..., None, None, None]), id="five-dimensional"),
        pytest.param(nibabel.Nifti2Image(AXIAL, np.eye(4)).to_bytes(), id="nifti-2"),
        pytest.param(gzip.compress(nibabel.Nifti2Image(AXIAL, np.eye(4)).to_bytes()), id="nifti-2 compressed"),
        pytest.param(
            nibabel.Nifti1Image(AXIAL, np.eye(4), nibabel.Nifti1Header(endianness=">")).to_bytes(), id="big endian"
        ),
        pytest.param(patched(nifti(AXIAL), SLOPE, "<f", 0), id="slope 0"),
        pytest.param(patched(nifti(AXIAL), SLOPE, "<f", np.nan), id="slope nan"),
        pytest.param(gzip.compress(nifti(AXIAL)) + b"something else", id="bytes after the compressed file"),
        pytest.param(gzip.compress(encoded(PICTURE)), id="compressed png"),
        pytest.param(gzip.compress(dicom(PICTURE[None].astype(np.uint16))), id="compressed dicom"),
    ],
)
def test_every_form_shows_the_picture(data: bytes) -> None:
    assert resembles(decode(data))


@pytest.mark.parametrize(("axis", "name"), [(0, "sagittal"), (1, "coronal")])
@pytest.mark.parametrize("side", [1.0, 6.0])
@pytest.mark.parametrize("count", [1, 9, 40])
def test_slices_are_drawn_in_the_plane_of_their_acquisition(axis: int, name: str, side: float, count: int) -> None:
    """Slices that are far apart are recognised by their distance, few slices by their number."""
    decoded = decode(
        nifti(np.stack([stored(PICTURE)] * count, axis=axis), np.diag([*np.eye(3)[axis] * (side - 1) + 1, 1]))
    )
    if side == 1 and count == 40:
        assert not any("plane" in note for note in decoded.notes)
    else:
        assert resembles(decoded)
        assert f"{name} slices, the plane in which the volume was acquired" in decoded.notes


def test_oblong_pixels_become_square() -> None:
    decoded = decode(nifti(np.stack([stored(PICTURE[::2])] * 3, axis=2), np.diag([1.0, 2, 1, 1])))
    assert resembles(decoded, least=0.95)
    assert "pixels of 2 : 1 resampled to square" in decoded.notes


@pytest.mark.parametrize("side", [0.0, np.nan, np.inf, 1e30])
def test_a_senseless_voxel_side_is_not_used(side: float) -> None:
    data = patched(patched(nifti(AXIAL), PIXDIM + 4, "<f", side), CODES, "<hh", 0, 0)
    decoded = decode(data)
    assert decoded.pixels.shape == PICTURE.shape
    assert any("makes no sense" in note for note in decoded.notes) == (side != 0)  # nibabel takes 0 for 1
    assert any("perhaps" in note for note in decoded.notes)


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (np.nan, 0, 0, 0)])
def test_a_volume_of_unknown_position_is_drawn_as_stored(row: Sequence[float]) -> None:
    decoded = decode(patched(nifti(AXIAL), SECOND_ROW, "<4f", *row))
    assert resembles(decoded)
    assert any("does not say how the head lies" in note for note in decoded.notes)


def test_of_a_series_the_first_volume_with_content_is_used() -> None:
    decoded = decode(nifti(np.stack([AXIAL * 0, AXIAL * 0, AXIAL], axis=3)))
    assert resembles(decoded)
    assert "volume 3 of 3 used; those before it are blank" in decoded.notes


def pair(kind: Any) -> list[bytes]:
    """Returns header and image of the volume; Analyze's first axis runs to the left."""
    streams = {name: io.BytesIO() for name in ("header", "image")}
    values = AXIAL[::-1] if kind is nibabel.AnalyzeImage else AXIAL
    kind(values, np.eye(4)).to_file_map({name: nibabel.FileHolder(fileobj=each) for name, each in streams.items()})
    return [each.getvalue() for each in streams.values()]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage])
def test_a_pair_is_read_in_either_order_and_compressed(kind: Any) -> None:
    header, image = pair(kind)
    for files in ([header, image], [image, header], [header, gzip.compress(image)], [gzip.compress(header), image]):
        decoded = open_scan(files).decode()
        assert resembles(decoded)
        assert any("perhaps mirrored" in note for note in decoded.notes) == (kind is nibabel.AnalyzeImage)
    with pytest.raises(ImageError, match=r"header of a pair, without pixels; add the \.img file"):
        decode(header)
    with pytest.raises(ImageError, match=r"its header announces \d+ bytes, there are 100"):
        open_scan([header, image[:100]])
    with pytest.raises(ImageError, match="expected one volume or the two files of a pair"):
        open_scan([image, image])


def framed(value: float, hole: float | None = None) -> np.ndarray:
    """Returns the picture inside a frame of `value`, with `hole` as one value within."""
    values = stored(PICTURE + 1.0, np.float32)
    inside = values[20:-20, 20:-20].copy()
    values[:] = value
    values[20:-20, 20:-20] = inside
    if hole is not None:
        values[40, 40] = hole
    return values


@pytest.mark.parametrize("fill", [np.nan, -1, -1024, -32768, -1e30])
def test_what_was_not_measured_is_black_and_leaves_the_rest_as_it_is(fill: float) -> None:
    expected, decoded = decode(nifti(framed(0))), decode(nifti(framed(fill)))
    assert np.abs(expected.pixels.astype(int) - decoded.pixels).max() <= 2
    assert decoded.notes == ("no data in 70.8% of the pixels, drawn black",)
    assert decode(nifti(framed(np.nan, np.nan))).pixels[39, 55] == 0  # a mask may have a small hole


def test_the_outside_of_a_head_of_mean_0_is_black() -> None:
    values = framed(0)
    values[20:-20, 20:-20] -= 128
    assert decode(nifti(values)).pixels[0, 0] == 0
    assert decode(nifti(framed(0))).notes == ()


@pytest.mark.parametrize(("outside", "inside"), [(0, np.nan), (0, np.inf), (np.inf, None), (-np.inf, None)])
def test_what_is_not_finite_inside_the_head_is_refused(outside: float, inside: float | None) -> None:
    for data in (nifti(framed(outside, inside)), encoded(framed(outside, inside), "TIFF")):
        with pytest.raises(ImageError, match="not finite"):
            decode(data)


def test_a_large_hole_in_a_head_is_refused() -> None:
    values = framed(np.nan)
    values[40:50, 35:45] = np.nan
    with pytest.raises(ImageError, match=r"not finite \(100 NaN\)"):
        decode(nifti(values))


def test_a_segmentation_is_called_one() -> None:
    decoded = decode(nifti(stored(PICTURE // 64)))
    assert decoded.notes == ("only 4 different values: perhaps a segmentation, not a scan",)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (patched(nifti(AXIAL), SLOPE, "<ff", 1, np.nan), "intensity scaling .* is not finite"),
        (patched(nifti(AXIAL), 70, "<h", 1536), r"type of numbers \(code 1536\) is not supported"),
        (nifti(AXIAL)[:-300], "incomplete: its header announces"),
        (gzip.compress(nifti(AXIAL))[:-300], "cut short"),
        (gzip.compress(gzip.compress(nifti(AXIAL))), "compressed twice"),
        (gzip.compress(nibabel.MGHImage(AXIAL.astype("f4"), np.eye(4)).to_bytes()), "MGH or MGZ .* with mri_convert"),
    ],
)
def test_what_cannot_be_read_is_said_as_it_is(data: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as refusal:
        decode(data)
    assert "damaged" not in str(refusal.value)


def test_a_wrong_checksum_is_seen() -> None:
    packed = gzip.compress(nifti(AXIAL))
    with pytest.raises(ImageError, match="cannot be decompressed"):
        decode(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])


def test_what_a_header_says_of_a_patient_appears_nowhere() -> None:
    image = nibabel.Nifti1Image(AXIAL, np.eye(4))
    image.header["descrip"] = PATIENT.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", PATIENT.encode()))
    assert PATIENT not in repr(decode(image.to_bytes()))


@settings(max_examples=40)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.sampled_from([(6.0, 1.0, 1.0), (1.0, 6.0, 1.0), (1.0, 1.0, 6.0)]),
)
def test_the_picture_does_not_depend_on_how_a_volume_is_stored(
    axes: Sequence[int], signs: tuple[int, ...], sides: tuple[float, ...]
) -> None:
    """The first slice, whatever its plane, has its top or front up and the patient's right or front on the left."""
    values = np.random.default_rng(0).integers(0, 99, (36, 40, 44)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([*sides, 1.0]))
    turned = image.as_reoriented([[axis, sign] for axis, sign in zip(axes, signs, strict=True)])
    across = sides.index(6.0)
    expected = np.take(values, 0, axis=across)[::-1, ::-1].T
    assert resembles(decode(turned.to_bytes(), 1), expected)
