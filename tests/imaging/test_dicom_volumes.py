"""How DICOM images lie, and which of them make a volume in which order."""

import io

import numpy as np
import pydicom
import pytest
from dicoms import AXIAL, CORONAL, HEAD, SAGITTAL, items, numbered, read
from pydicom.sequence import Sequence
from pydicom.uid import (
    generate_uid,
)
from rewrapped import dicom

from medisync.errors import ImageError
from medisync.imaging.dicom import open_dicom
from medisync.imaging.dicom_series import describe

# Geometry


def test_spacing_is_that_of_rows_before_columns() -> None:
    assert read(dicom(HEAD, PixelSpacing=[0.9, 2.4])).spacing == (0.9, 2.4)
    assert read(dicom(HEAD, ImagerPixelSpacing=[0.5, 0.25])).spacing == (0.5, 0.25)
    assert read(dicom(HEAD, PixelAspectRatio=[3, 2])).spacing == (3, 2)


@pytest.mark.parametrize("nonsense", [[0, 1], [-1, 1], [1], [1, 1, 1], [1, 500]])
def test_spacing_that_makes_no_sense_is_ignored_with_a_note(nonsense: list[float]) -> None:
    found = read(dicom(HEAD, PixelSpacing=nonsense))
    assert (found.spacing, found.notes) == ((1, 1), ("its PixelSpacing makes no sense and was ignored",))


@pytest.mark.parametrize(
    ("right", "down"), [(AXIAL[:3], AXIAL[3:]), (SAGITTAL[:3], SAGITTAL[3:]), (CORONAL[:3], CORONAL[3:])]
)
def test_every_turn_and_mirror_is_undone(right: list[int], down: list[int]) -> None:
    # rows run to `right` and columns `down` where the image is upright already; 8 ways to store it
    for transposed in (False, True):
        for flip_rows in (1, -1):
            for flip_columns in (1, -1):
                stored = HEAD[::flip_rows, ::flip_columns]
                across, along = flip_columns * np.array(right), flip_rows * np.array(down)
                pair = (along, across) if transposed else (across, along)
                found = read(
                    dicom(
                        np.ascontiguousarray(stored.T if transposed else stored),
                        ImageOrientationPatient=[int(each) for vector in pair for each in vector],
                        PixelSpacing=[2, 1] if transposed else [1, 2],
                    )
                )
                assert np.array_equal(found.values, HEAD)
                assert found.spacing == (1, 2)
                assert bool(found.notes) == (transposed or (flip_rows, flip_columns) != (1, 1))


def test_oblique_images_are_drawn_as_the_nearest_plane_and_letters_are_read() -> None:
    half_turn = HEAD[::-1, ::-1].copy()
    assert np.array_equal(
        read(dicom(half_turn, ImageOrientationPatient=[-0.96, 0.28, 0, -0.28, -0.96, 0])).values, HEAD
    )
    assert np.array_equal(read(dicom(half_turn, PatientOrientation=["R", "AF"])).values, HEAD)
    assert read(dicom(half_turn, PatientOrientation=["R", "A"])).notes == (
        "turned, as its orientation says, to the front up and the patient's right on the left",
    )


@pytest.mark.parametrize("nonsense", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_an_orientation_that_makes_no_sense_is_ignored_with_a_note(nonsense: list[float]) -> None:
    found = read(dicom(HEAD, ImageOrientationPatient=nonsense))
    assert np.array_equal(found.values, HEAD)
    assert found.notes == ("its ImageOrientationPatient makes no sense and was ignored",)


# Volumes


def shown(files: list[bytes]) -> list[int]:
    """Returns the numbers that were added to the slices of a volume."""
    volume = open_dicom(files)
    return [int(volume.read(index).values[0, 0]) for index in range(volume.count)]


def enhanced(heights: list[float], **first_group: Sequence) -> bytes:
    """Returns an enhanced file whose frames stand at these heights."""
    groups = Sequence()
    for number, height in enumerate(heights):
        group = items(PlanePositionSequence=items(ImagePositionPatient=[0, 0, height]))[0]
        group.FrameContentSequence = items(TemporalPositionIndex=number + 1)
        for name, value in first_group.items() if number == 0 else ():
            setattr(group, name, value)
        groups.append(group)
    shared = items(
        PlaneOrientationSequence=items(ImageOrientationPatient=AXIAL),
        PixelMeasuresSequence=items(PixelSpacing=[2, 1]),
        PixelValueTransformationSequence=items(RescaleSlope=2, RescaleIntercept=0, RescaleType="US"),
    )
    frames = numbered(*range(1, len(heights) + 1))
    return dicom(frames, SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=groups)


def test_functional_groups_hold_per_frame_before_shared() -> None:
    data = enhanced(
        [0, 5], PixelValueTransformationSequence=items(RescaleSlope=10, RescaleIntercept=1, RescaleType="US")
    )
    assert shown([data]) == [11, 4]  # frame 1 by 10 + 1, frame 2 by 2
    assert read(data).spacing == (2, 1)


def test_frames_are_in_the_order_of_their_positions_and_repeats_are_left_out() -> None:
    volume = open_dicom([enhanced([10, 0, 5, 0])])
    assert [volume.read(k).values[0, 0] / 2 for k in range(volume.count)] == [2, 3, 1]
    assert volume.notes == (
        "1 of 4 images show a place that another shows too (echoes, time points) and were left out",
    )


def test_frames_without_positions_stay_as_they_are_stored() -> None:
    assert shown([dicom(numbered(3, 1, 2), ImageOrientationPatient=AXIAL, ImagePositionPatient=[0, 0, 0])]) == [3, 1, 2]


def series(places: list[float], orientation: list[int], **more: object) -> list[bytes]:
    """Returns a file per place along the head-foot axis; 1 is added to the pixels of the first, 2 to those of the second."""
    uid = generate_uid()
    return [
        dicom(
            numbered(number)[0],
            **{
                "SeriesInstanceUID": uid,
                "ImageOrientationPatient": orientation,
                "ImagePositionPatient": [place] * 3,
                "InstanceNumber": number,
                **more,
            },
        )
        for number, place in enumerate(places, 1)
    ]


def test_a_series_is_ordered_by_position() -> None:
    for orientation in (AXIAL, SAGITTAL, CORONAL):
        assert shown(series([10, -5, 0], orientation)) == [2, 3, 1]
    assert shown(series([10, -5, 0], AXIAL, ImagePositionPatient=[], SliceLocation=1)[:1]) == [1]


def test_a_series_without_positions_is_ordered_by_its_instance_numbers() -> None:
    files = series([1, 2, 3], AXIAL, ImagePositionPatient=[], ImageOrientationPatient=[])
    assert shown([files[2], files[0], files[1]]) == [1, 2, 3]


def test_localisers_echoes_reports_and_damaged_files_of_a_series_are_left_out_with_a_note() -> None:
    files = series([0, 5, 0, 5], AXIAL)
    localiser = series([0], SAGITTAL)
    report = dicom(HEAD, PixelData=None)
    volume = open_dicom([*files, *localiser, report, files[0][:-100]])
    assert volume.count == 2
    assert volume.part == "slice"
    assert volume.notes == (
        "2 of 7 files left out, the first because the DICOM file holds no image",
        "1 of 5 images have another orientation and were left out",
        "2 of 4 images show a place that another shows too (echoes, time points) and were left out",
    )


def mosaic(side: int, filled: int, **fields: object) -> bytes:
    """Returns tiles that differ by 1, of which those after the first `filled` are blank."""
    rows = [
        [HEAD + np.uint16(row * side + column) if row * side + column < filled else HEAD * 0 for column in range(side)]
        for row in range(side)
    ]
    return dicom(np.block(rows), ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], **fields)


def with_count(data: bytes, count: int) -> bytes:
    file = pydicom.dcmread(io.BytesIO(data))
    file.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    stream = io.BytesIO()
    file.save_as(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        with_count(mosaic(3, 7), 7),
        mosaic(3, 7, AcquisitionMatrix=[64, 0, 0, 48]),
        mosaic(3, 7),
    ],
    ids=["by the number of slices", "by the acquisition matrix", "by the dark borders"],
)
def test_a_mosaic_is_cut_into_its_slices(data: bytes) -> None:
    volume = open_dicom([data])
    assert (volume.count, volume.part) == (7, "tile")
    assert all(np.array_equal(volume.read(index).values, HEAD + index) for index in range(7))
    assert volume.notes == ("a Siemens mosaic, cut into its 7 slices",)


def test_a_mosaic_whose_slices_cannot_be_told_apart_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 4000, (128, 128)).astype(np.uint16)
    with pytest.raises(ImageError, match="a Siemens mosaic whose slices cannot be told apart"):
        open_dicom([dicom(noise, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])])


# Which files belong together


def test_files_of_one_series_have_one_key_that_tells_no_identifier() -> None:
    first, second = series([0, 5], AXIAL)
    uid = str(pydicom.dcmread(io.BytesIO(first)).SeriesInstanceUID)
    assert describe(first) == describe(second) != describe(dicom(HEAD))
    assert uid not in str(describe(first))


def test_volumes_files_without_series_and_files_without_image_belong_to_none() -> None:
    for alone in (
        dicom(numbered(1, 2)),
        mosaic(3, 7),
        dicom(HEAD, SeriesInstanceUID=None),
        dicom(HEAD, PixelData=None),
    ):
        assert describe(alone).series == "" or not describe(alone).has_image
    assert not describe(dicom(HEAD, PixelData=None)).has_image
    assert describe(dicom(HEAD)[:600]).has_image is False
