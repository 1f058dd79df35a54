"""DICOM files of every form, made with pydicom: each is shown as the plain picture, or refused with the true reason."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    generate_uid,
)
from rewrapped import dicom

from medisync.data import dicom_file
from medisync.data.dicom import open_dicom
from medisync.data.dicom_series import describe, series_key
from medisync.data.slices import Slice
from medisync.errors import ImageError

imagecodecs = pytest.importorskip("imagecodecs")

HEAD = np.zeros((64, 48), np.uint16)
HEAD[8:56, 8:40] = np.arange(48 * 32).reshape(48, 32) + 500
"""Black around a block of all intensities from 500 to 2035."""

AXIAL, SAGITTAL, CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


def items(**fields: object) -> Sequence:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return Sequence([item])


def read(*files: bytes, number: int = 1) -> Slice:
    return open_dicom(files).read(number - 1)


def rewritten(data: bytes, **encoding: object) -> bytes:
    """Returns a file without its transfer syntax, written again."""
    file = pydicom.dcmread(io.BytesIO(data))
    del file.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=False, **encoding)
    return stream.getvalue()


# Windows


def test_a_window_maps_its_edges_to_black_and_white() -> None:
    # stored values are rescaled by + 1000; LINEAR spans 999 steps around 1999.5 of the window 2000 / 1000 (PS3.3, C.11.2.1.2.1)
    values = np.tile(np.linspace(400, 1600, 48).astype(np.uint16), (64, 1))
    drawn = read(dicom(values, RescaleSlope=1, RescaleIntercept=1000, WindowCenter=2000, WindowWidth=1000)).values
    assert drawn.dtype == np.uint8
    expected = np.clip(np.rint(((values[0] + 1000.0 - 1999.5) / 999 + 0.5) * 255), 0, 255)
    assert drawn[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"WindowCenter": 20000, "WindowWidth": 100}, "leaves the image without contrast"),
        ({"WindowCenter": 1250, "WindowWidth": 65000}, "leaves the image without contrast"),
        ({"WindowCenter": 700, "WindowWidth": 600}, "would clip 68% of the head"),
        ({"WindowCenter": 1000, "WindowWidth": 0}, "makes no sense"),
        ({"WindowCenter": 1000}, "makes no sense"),
    ],
)
def test_a_window_that_does_not_suit_gives_way_with_a_note(fields: dict[str, object], note: str) -> None:
    # of the head's 1536 intensities from 500 to 2035, those from 998 on are rounded to white: 1038, 68 %
    found = read(dicom(HEAD, **fields))
    assert np.array_equal(found.values, HEAD)
    assert note in found.notes[0]


def test_of_several_windows_the_first_that_suits_is_taken() -> None:
    both = read(dicom(HEAD, WindowCenter=[20000, 1300], WindowWidth=[100, 2600]))
    assert np.array_equal(both.values, read(dicom(HEAD, WindowCenter=1300, WindowWidth=2600)).values)
    assert both.notes == ()


def test_a_window_in_stored_values_is_recognised() -> None:
    philips = read(dicom(HEAD, RescaleSlope=5.5, RescaleIntercept=-300, WindowCenter=1300, WindowWidth=2600))
    assert np.array_equal(philips.values, read(dicom(HEAD, WindowCenter=1300, WindowWidth=2600)).values)
    assert "its window suits the stored values" in philips.notes[0]


def test_windows_of_other_shapes() -> None:
    values = HEAD.astype(np.float64)
    exact = read(dicom(HEAD, WindowCenter=1300, WindowWidth=2600, VOILUTFunction="LINEAR_EXACT")).values
    assert np.array_equal(exact, np.rint(np.clip((values - 1300) / 2600 + 0.5, 0, 1) * 255))
    sigmoid = read(dicom(HEAD, WindowCenter=1300, WindowWidth=2600, VOILUTFunction="SIGMOID")).values
    assert np.array_equal(sigmoid, np.rint(255 / (1 + np.exp(-4 * (values - 1300) / 2600))))


def test_a_lookup_table_comes_before_a_window() -> None:
    # the table halves, up to 4095 -> 2047, which becomes white
    table = items(LUTDescriptor=[4096, 0, 16], LUTData=(np.arange(4096) // 2).astype("<u2").tobytes())
    found = read(dicom(HEAD, VOILUTSequence=table, WindowCenter=1300, WindowWidth=2600)).values
    assert np.array_equal(found, np.rint((HEAD // 2) * (255 / 2047)))


def test_a_modality_lookup_table_comes_before_the_window() -> None:
    table = items(
        LUTDescriptor=[4096, 0, 16], LUTData=(np.arange(4096) * 3).astype("<u2").tobytes(), ModalityLUTType="US"
    )
    assert np.array_equal(read(dicom(HEAD, ModalityLUTSequence=table)).values, 3 * HEAD)


# Light on dark, padding, bits, colours


@pytest.mark.parametrize("fields", [{"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}])
def test_dark_on_light_is_inverted(fields: dict[str, object]) -> None:
    plain = read(dicom(HEAD)).values.astype(int)
    assert np.array_equal(read(dicom(HEAD, **fields)).values, plain.max() - plain)
    window = {"WindowCenter": 1300, "WindowWidth": 2600}
    assert np.array_equal(
        read(dicom(2035 - HEAD, **fields, **window)).values, 255 - read(dicom(2035 - HEAD, **window)).values
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"PixelPaddingValue": -2000},
        {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990},
        {"PixelPaddingValue": -1990, "PixelPaddingRangeLimit": -2000},
        {},
    ],
    ids=["value", "range", "range downwards", "not declared"],
)
def test_padding_is_no_data(fields: dict[str, object]) -> None:
    values = HEAD.astype(np.int16)
    values[:4] = -2000
    found = read(dicom(values, **fields, RescaleSlope=2, RescaleIntercept=1))
    assert np.isnan(found.values[:4]).all()
    assert np.array_equal(found.values[4:], 2.0 * values[4:] + 1)
    assert "padding" in found.notes[0]
    windowed = read(dicom(values, **fields, WindowCenter=1300, WindowWidth=2600)).values
    assert not windowed[:4].any()


def test_padding_above_all_others_is_recognised_and_bright_tissue_is_not_padding() -> None:
    values = HEAD.copy()
    values[:4] = 65535
    assert np.isnan(read(dicom(values)).values[:4]).all()
    values[:4] = 3000
    assert np.array_equal(read(dicom(values)).values, values)
    block = np.where(HEAD > 0, np.uint16(900), np.uint16(0))
    assert np.array_equal(read(dicom(block)).values, block)


@pytest.mark.parametrize("slope", [0, "nan"])
def test_a_rescale_that_makes_no_sense_is_ignored_with_a_note(slope: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom(HEAD, RescaleSlope=slope, RescaleIntercept=5)
    found = read(data)
    assert np.array_equal(found.values, HEAD)
    assert found.notes == ("its rescale makes no sense and was ignored",)


def test_padding_of_the_other_sign_is_recognised() -> None:
    values = HEAD.astype(np.int16)
    values[:4] = -2000
    file = pydicom.dcmread(io.BytesIO(dicom(values)))
    file.add_new("PixelPaddingValue", "US", 65536 - 2000)
    stream = io.BytesIO()
    file.save_as(stream)
    assert np.isnan(read(stream.getvalue()).values[:4]).all()


def test_a_padding_value_that_is_everywhere_is_ignored_with_a_note() -> None:
    found = read(dicom(HEAD, PixelPaddingValue=0, PixelPaddingRangeLimit=4000))
    assert np.array_equal(found.values, HEAD)
    assert "would leave nothing" in found.notes[0]


def test_floating_point_pixels_are_read() -> None:
    values = (HEAD / 7).astype(np.float32)
    values[0, 0] = np.nan
    absent = dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    assert np.array_equal(read(dicom(values, FloatPixelData=values.tobytes(), **absent)).values, values, equal_nan=True)
    doubles = values.astype(np.float64)
    read_doubles = read(dicom(doubles, DoubleFloatPixelData=doubles.tobytes(), **absent)).values
    assert np.array_equal(read_doubles, values, equal_nan=True)


def test_an_overlay_in_the_upper_bits_is_removed_and_a_wrong_number_of_bits_is_not_believed() -> None:
    overlay = HEAD | np.uint16(0x8000)
    file = pydicom.dcmread(io.BytesIO(dicom(overlay, BitsStored=12, HighBit=11)))
    file.add_new((0x6000, 0x0102), "US", 15)
    stream = io.BytesIO()
    file.save_as(stream)
    assert np.array_equal(read(stream.getvalue()).values, HEAD)
    assert np.array_equal(read(dicom(HEAD, BitsStored=8, HighBit=7)).values, HEAD)


def test_the_sign_is_extended_and_pixels_in_the_upper_bits_are_moved() -> None:
    signed = (np.arange(64 * 48).reshape(64, 48) - 1500).astype(np.int16)
    twelve = (signed & 0x0FFF).astype(np.int16)
    assert np.array_equal(read(dicom(twelve, BitsStored=12, HighBit=11)).values, signed)
    assert np.array_equal(read(dicom(HEAD << 4, BitsStored=12, HighBit=15)).values, HEAD)


def test_palette_indices_become_their_colours() -> None:
    indices = (np.arange(64 * 64) % 256).reshape(64, 64).astype(np.uint8)
    reverse = np.arange(255, -1, -1, dtype=np.uint16)
    colours = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    for name in ("Red", "Green", "Blue"):
        colours[f"{name}PaletteColorLookupTableData"] = (reverse * 257).tobytes()
    found = read(dicom(indices, PhotometricInterpretation="PALETTE COLOR", **colours)).values
    assert found.dtype == np.uint8
    assert all(np.array_equal(found[..., channel], 255 - indices) for channel in range(3))


def test_segmented_palettes_are_expanded() -> None:
    # two linear segments: one entry 0, then 255 more up to 65535 (PS3.3, C.7.9.2)
    segments = struct.pack("<6H", 0, 1, 0, 1, 255, 65535)
    indices = (np.arange(64 * 64) % 256).reshape(64, 64).astype(np.uint8)
    fields = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    fields |= {f"Segmented{name}PaletteColorLookupTableData": segments for name in ("Red", "Green", "Blue")}
    found = read(dicom(indices, PhotometricInterpretation="PALETTE COLOR", **fields)).values
    assert np.array_equal(found[..., 0], indices)


def test_colours_of_both_planar_configurations_and_of_luminance_are_read() -> None:
    colour = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(read(dicom(colour)).values, colour)
    assert np.array_equal(read(dicom(colour, PlanarConfiguration=1, PixelData=planes)).values, colour)
    grey = np.stack([np.full((40, 50), 77), np.full((40, 50), 128), np.full((40, 50), 128)], axis=2).astype(np.uint8)
    assert (read(dicom(grey, PhotometricInterpretation="YBR_FULL")).values == 77).all()


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


def numbered(*numbers: int) -> NDArray[np.uint16]:
    return np.stack([HEAD + np.uint16(number) for number in numbers])


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
    assert series_key(first) == series_key(second) != series_key(dicom(HEAD))
    assert uid not in str(series_key(first))


def test_volumes_files_without_series_and_files_without_image_belong_to_none() -> None:
    for alone in (
        dicom(numbered(1, 2)),
        mosaic(3, 7),
        dicom(HEAD, SeriesInstanceUID=None),
        dicom(HEAD, PixelData=None),
    ):
        assert series_key(alone) is None
    assert not describe(dicom(HEAD, PixelData=None)).has_image
    assert describe(dicom(HEAD)[:600]).has_image is False


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
