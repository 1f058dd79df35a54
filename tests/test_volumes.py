"""DICOM and NIfTI: files made here with the real libraries, one slice out of each."""

import gzip
import io

import nibabel
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scans import texture

from medisync import images, volumes
from medisync.errors import ImageError

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def dicom(frames: np.ndarray, **fields: object) -> bytes:
    """A file with frames uint16 [N, H, W] and the name of a patient."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.PatientID, file.Modality, file.BurnedInAnnotation = "Nobody^Known", "4711", "MR", "NO"
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.PixelData = frames.astype("<u2").tobytes()
    for name, value in fields.items():
        setattr(file, name, value)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()


def test_a_window_maps_its_edges_to_black_and_white() -> None:
    # rescaled: stored - 1000; the window from 0 to 1000 is what was stored as 1000 to 2000
    data = dicom(RAMP[None], RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=500, WindowWidth=1000)
    values = volumes.read_slice(data).values
    assert values.dtype == np.uint8
    assert values.ravel()[[0, 1000, 1500, 2000, 3000]].tolist() == [0, 0, 128, 255, 255]


def test_monochrome1_is_turned_to_light_on_dark() -> None:
    plain, inverted = dicom(RAMP[None]), dicom(RAMP[None], PhotometricInterpretation="MONOCHROME1")
    first, second = volumes.read_slice(plain).values, volumes.read_slice(inverted).values
    assert np.array_equal(second, first.max() - first)


def test_the_frame_asked_for_is_read_and_the_middle_one_otherwise() -> None:
    frames = np.stack([RAMP, RAMP + 1, RAMP + 2])
    assert volumes.read_slice(dicom(frames), 3).values[0, 0] == 2
    middle = volumes.read_slice(dicom(frames))
    assert (middle.values[0, 0], middle.count) == (1, 3)
    assert middle.notes == ("frame 2 of 3 used",)
    with pytest.raises(ImageError, match="slice 4 was asked for, the file has 3"):
        volumes.read_slice(dicom(frames), 4)


def test_what_the_file_says_of_burned_in_text_is_passed_on_and_of_the_patient_nothing() -> None:
    decoded = images.decode(dicom(RAMP[None], BurnedInAnnotation="YES", Modality="CT"))
    assert "text is burned into the picture" in decoded.notes[0]
    assert "modality is CT, not MR" in decoded.notes[1]
    assert "Nobody" not in repr(decoded)
    assert "4711" not in repr(decoded)


def test_an_axial_slice_has_the_front_up_and_the_right_on_the_left() -> None:
    values = np.zeros((40, 50, 3), np.int16)
    values[-1, :, 1] = 5  # the patient's right side in a volume whose first axis runs to the right
    values[:, -1, 1] = 9  # the front
    drawn = volumes.read_slice(nifti(values)).values
    assert drawn.shape == (50, 40)
    assert (drawn[0] == 9).all()
    assert (drawn[1:, 0] == 5).all()
    assert not drawn[1:, 1:].any()


def test_an_affine_that_mirrors_is_undone() -> None:
    values = np.random.default_rng(0).integers(0, 99, (40, 50, 3)).astype(np.int16)
    mirrored = nifti(values[::-1], np.diag([-1.0, 1, 1, 1]))
    assert np.array_equal(volumes.read_slice(mirrored).values, volumes.read_slice(nifti(values)).values)


def test_compressed_and_plain_volumes_decode_alike_and_say_which_slice() -> None:
    values = np.stack([texture(seed, 80) for seed in range(5)], axis=2).astype(np.float32)
    plain = images.decode(nifti(values), 4)
    packed = images.decode(gzip.compress(nifti(values)), 4)
    assert np.array_equal(plain.pixels, packed.pixels)
    assert plain.slices == 5
    assert "slice 4 of 5 used" in plain.notes
    assert not np.array_equal(plain.pixels, images.decode(nifti(values)).pixels)


def test_of_several_volumes_the_first_is_used() -> None:
    values = np.stack([np.full((40, 40, 3), k) for k in range(4)], axis=3).astype(np.int16)
    found = volumes.read_slice(nifti(values))
    assert not found.values.any()
    assert "first of several volumes used" in found.notes


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (dicom(RAMP[None])[:600], "damaged|no picture"),
        (dicom(RAMP[None], PixelData=b"\0\0"), "damaged"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 400, "damaged|no picture"),
        (gzip.compress(b"nothing of that kind" * 40), "holds no NIfTI volume"),
        (gzip.compress(b"x" * 900)[:20], "holds no NIfTI volume"),
        (nifti(np.zeros((40, 40, 3), np.int16))[:1000], "damaged"),
        (nifti(np.zeros((40, 40), np.int16)), "expected a volume of slices"),
        (nifti(np.full((40, 40, 3), np.nan, np.float32)), "not finite"),
        (nifti(np.zeros((40, 40, 3), np.int16)), "no content"),
        (nifti(np.ones((8, 8, 3), np.int16)), "too small"),
        (dicom(np.zeros((1, 64, 64), np.uint16)), "no content"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        images.decode(data)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MAX_BYTES", 10_000)
    with pytest.raises(ImageError, match="more than the limit"):
        images.decode(gzip.compress(nifti(np.zeros((64, 64, 64), np.int16))))
