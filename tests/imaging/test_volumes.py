"""One slice of DICOM and NIfTI files, which the tests make with the real libraries."""

import gzip
import io
import subprocess
import sys

import bad_inputs
import nibabel
import numpy as np
import pydicom
import pytest
from bad_inputs import nifti
from hypothesis import given
from hypothesis import strategies as st
from scans import texture

from medisync.errors import ImageError
from medisync.imaging import compression, volumes
from medisync.imaging.decoding import decode
from medisync.imaging.slices import Slice

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def dicom(frames: np.ndarray, **fields: object) -> bytes:
    return bad_inputs.dicom(frames, **{"BurnedInAnnotation": "NO", **fields})


def read(data: bytes, number: int | None = None) -> Slice:
    """Reads slice `number`, from 1; by default the middle one."""
    volume = volumes.open_volume([data])
    return volume.read(volume.count // 2 if number is None else number - 1)


def test_the_requested_frame_is_read_and_by_default_the_middle_one() -> None:
    frames = np.stack([RAMP, RAMP + 1, RAMP + 2])
    assert read(dicom(frames), 3).values[0, 0] == 2
    assert read(dicom(frames)).values[0, 0] == 1
    middle = decode(dicom(frames))
    assert (middle.notes, middle.slices) == (("frame 2 of 3 used",), 3)
    with pytest.raises(ImageError, match="slice 4 was asked for, the file has 3"):
        decode(dicom(frames), 4)


def test_a_burned_in_annotation_is_noted_and_the_patient_is_not() -> None:
    decoded = decode(dicom(RAMP[None], BurnedInAnnotation="YES", Modality="CT"))
    assert "text is burned into the image" in decoded.notes[0]
    assert "modality is CT, not MR" in decoded.notes[1]
    assert "Nobody" not in repr(decoded)
    assert "4711" not in repr(decoded)


def test_an_axial_slice_has_the_front_up_and_the_right_on_the_left() -> None:
    values = np.zeros((40, 50, 3), np.int16)
    values[-1, :, 1] = 5  # the patient's right side in a volume whose first axis runs to the right
    values[:, -1, 1] = 9  # the front
    drawn = read(nifti(values)).values
    assert drawn.shape == (50, 40)
    assert (drawn[0] == 9).all()
    assert (drawn[1:, 0] == 5).all()
    assert not drawn[1:, 1:].any()


def test_a_mirroring_affine_is_undone() -> None:
    values = np.random.default_rng(0).integers(0, 99, (40, 50, 3)).astype(np.int16)
    mirrored = nifti(values[::-1], np.diag([-1.0, 1, 1, 1]))
    assert np.array_equal(read(mirrored).values, read(nifti(values)).values)


def test_compressed_and_uncompressed_volumes_decode_alike_and_note_the_slice() -> None:
    values = np.stack([texture(seed, 80) for seed in range(5)], axis=2).astype(np.float32)
    plain = decode(nifti(values), 4)
    packed = decode(gzip.compress(nifti(values)), 4)
    assert np.array_equal(plain.pixels, packed.pixels)
    assert plain.slices == 5
    assert "slice 4 of 5 used" in plain.notes
    assert not np.array_equal(plain.pixels, decode(nifti(values)).pixels)


def test_of_several_volumes_the_first_is_used() -> None:
    values = np.stack([np.full((40, 40, 3), k) for k in range(4)], axis=3).astype(np.int16)
    assert not read(nifti(values)).values.any()
    assert "first of several volumes used" in volumes.open_volume([nifti(values)]).notes


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(dicom(RAMP[None])[:600], "damaged|no image", id="dicom cut short"),
        pytest.param(dicom(RAMP[None], PixelData=b"\0\0"), "damaged", id="dicom with two bytes of pixels"),
        pytest.param(b"\0" * 128 + b"DICM" + b"\xff" * 400, "damaged|no image", id="dicom of arbitrary bytes"),
        pytest.param(gzip.compress(b"nothing of that kind" * 40), "not an image", id="gzip of a text"),
        pytest.param(gzip.compress(b"x" * 900)[:20], "cut short", id="gzip cut short"),
        pytest.param(
            nifti(np.zeros((40, 40, 3), np.int16))[:1000],
            "incomplete: its header announces 9952 bytes, there are 1000",
            id="nifti cut short",
        ),
        pytest.param(nifti(np.zeros(40, np.int16)), "expected an image or a volume of slices", id="nifti of one row"),
        pytest.param(nifti(np.full((40, 40, 3), np.nan, np.float32)), "no content", id="nifti of nan"),
        pytest.param(nifti(np.zeros((40, 40, 3), np.int16)), "no content", id="nifti of zeros"),
        pytest.param(nifti(np.ones((8, 8, 3), np.int16)), "too small", id="nifti too small"),
        pytest.param(dicom(np.zeros((1, 64, 64), np.uint16)), "no content", id="dicom of zeros"),
    ],
)
def test_an_unusable_volume_is_refused_in_one_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        decode(data)


def test_a_decompression_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_BYTES", 10_000)
    packed = gzip.compress(nifti(np.zeros((64, 64, 64), np.int16)))
    with pytest.raises(ImageError, match="once decompressed, over the limit"):
        decode(packed[:200])  # the header is enough


@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    st.integers(1, 6),
)
def test_the_slice_equals_nibabels_canonical_one(axes: list[int], signs: tuple[float, ...], number: int) -> None:
    affine = np.zeros((4, 4))
    affine[axes, range(3)], affine[3, 3] = signs, 1
    data = nifti(np.random.default_rng(0).integers(0, 99, (40, 41, 42)).astype(np.int16), affine)
    whole = np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image.from_bytes(data)).dataobj)
    chosen = 1 + (number - 1) % whole.shape[2]
    assert np.array_equal(read(data, chosen).values, whole[:, :, chosen - 1].T[::-1, ::-1])


def test_metadata_appear_in_no_message_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    file = pydicom.dcmread(io.BytesIO(dicom(RAMP[None])))
    wrong = pydicom.DataElement("WindowWidth", "DS", "1")
    wrong._value = bad_inputs.PATIENT
    file["WindowWidth"] = wrong
    file.WindowCenter = 1
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    data = stream.getvalue()
    assert data.count(bad_inputs.PATIENT.encode()) == 2  # as the name, and in place of a number
    try:
        said = repr(decode(data).notes)
    except ImageError as error:
        said = str(error)
    assert bad_inputs.PATIENT not in said
    assert bad_inputs.PATIENT not in caplog.text


def test_volume_libraries_are_imported_only_for_volumes() -> None:
    code = "import medisync.imaging.decoding, sys; sys.exit(bool({'nibabel', 'pydicom'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
