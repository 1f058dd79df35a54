"""From stored values to what is shown: windows, padding, bits and colours of DICOM files, derived by hand."""

import io
import struct
import warnings

import numpy as np
import pydicom
import pytest
from dicoms import HEAD, items, read
from rewrapped import dicom

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
