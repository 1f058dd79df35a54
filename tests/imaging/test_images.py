"""Image files: stacks of pages, unsupported variants, foreign formats; and which slice of a volume is shown."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
from bad_inputs import JPEG, SCAN, dicom, encoded, nifti
from PIL import Image
from scans import texture

from medisync.errors import ImageError
from medisync.imaging.decoding import decode, open_scan, shows_head
from medisync.imaging.foreign import foreign_format
from medisync.imaging.intensities import reduce_to_bytes

BLANK = np.zeros_like(SCAN)


def stack(*pages: np.ndarray, **options: object) -> bytes:
    first, *more = [Image.fromarray(page) for page in pages]
    return encoded(first, "TIFF", save_all=True, append_images=more, **options)


def test_the_pages_of_a_tiff_stack_are_slices() -> None:
    pages = [texture(seed, 64) for seed in range(5)]
    scan = open_scan([stack(*pages, compression="tiff_lzw")])
    assert scan.count == 5
    for number in (5, 1, 3):
        decoded = scan.decode(number)
        assert np.array_equal(decoded.pixels, pages[number - 1])
        assert (decoded.number, decoded.notes) == (number, (f"page {number} of 5 used",))
    assert scan.decode().number == 3


def test_thumbnails_are_no_slices() -> None:
    small = SCAN[::2, ::2].copy()
    decoded = decode(stack(SCAN, small))
    assert np.array_equal(decoded.pixels, SCAN)
    assert decoded.notes == ("1 pages of another size or kind left out",)
    behind = decode(stack(small, SCAN, SCAN))
    assert np.array_equal(behind.pixels, SCAN)
    assert behind.slices == 2


def chain(pages: int, entries: int) -> bytes:
    """Returns a TIFF file of directories that claim to be images of 64 x 64 pixels."""
    tags = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 3, 1, 64)]
    tags += [(279, 4, 1, 4096), *[(60000, 3, 1, 1)] * (entries - 7)]
    body = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    size = len(body) + 4
    return b"II*\0\x08\0\0\0" + b"".join(body + struct.pack("<I", 8 + size * (page + 1)) for page in range(pages))


@pytest.mark.parametrize(("pages", "entries"), [(20_000, 7), (20, 60_000)])
def test_pages_are_counted_within_bounds(pages: int, entries: int) -> None:
    data = chain(pages, entries)
    tracemalloc.start()
    with pytest.raises(ImageError, match="more than 1000 pages or 60000 entries"):
        decode(data)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


def test_a_stack_that_is_cut_off_is_damaged_and_a_circle_of_pages_ends() -> None:
    whole = stack(SCAN, SCAN, SCAN)
    with pytest.raises(ImageError, match="damaged"):
        decode(whole[: len(whole) * 2 // 3])
    circle = bytearray(encoded(SCAN, "TIFF"))
    (place,) = struct.unpack("<I", circle[4:8])
    (count,) = struct.unpack("<H", circle[place : place + 2])
    struct.pack_into("<I", circle, place + 2 + 12 * count, place)
    assert np.array_equal(decode(bytes(circle)).pixels, SCAN)


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """Returns a TIFF file with another value of a tag."""
    changed = bytearray(data)
    (place,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[place : place + 2])
    entries = range(place + 2, place + 2 + 12 * count, 12)
    (found,) = [entry for entry in entries if struct.unpack("<H", data[entry : entry + 2]) == (tag,)]
    struct.pack_into("<H", changed, found + 8, value)
    return bytes(changed)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_inverted(kind: type) -> None:
    inverted = with_tag(encoded((255 - SCAN).astype(kind), "TIFF"), 262, 0)
    assert np.corrcoef(decode(inverted).pixels.ravel(), SCAN.ravel())[0, 1] > 0.99


def jpeg(marker: int, bits: int = 8, channels: int = 1) -> bytes:
    """Returns a JPEG whose frame claims to be of another kind."""
    at = JPEG.index(b"\xff\xc0")
    return (
        JPEG[: at + 1]
        + bytes([marker])
        + JPEG[at + 2 : at + 4]
        + bytes([bits])
        + JPEG[at + 5 : at + 9]
        + bytes([channels])
        + JPEG[at + 10 :]
    )


@pytest.mark.parametrize(
    ("data", "variant"),
    [
        (jpeg(0xC1, bits=12), "12-bit JPEG"),
        (jpeg(0xC3), "lossless JPEG"),
        (jpeg(0xC5), "hierarchical JPEG"),
        (jpeg(0xCB), "JPEG with arithmetic coding"),
        (jpeg(0xF7), "JPEG-LS"),
        (jpeg(0xC0, channels=2), "JPEG with 2 channels"),
        (with_tag(encoded(SCAN, "TIFF"), 259, 34712), "this compression of TIFF"),
        (with_tag(encoded(SCAN, "TIFF"), 258, 64), "this pixel type of TIFF"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unsupported_variant_is_named_and_not_called_damaged(data: bytes, variant: str) -> None:
    with pytest.raises(ImageError, match=f"^{variant} is not supported; export the image as 8-bit PNG, or as DICOM"):
        decode(data)


def jpeg_2000() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(SCAN).save(stream, "JPEG2000")
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, SCAN)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (jpeg_2000(), "a JPEG 2000 file"),
        (npy(), "a NumPy array"),
        (b"NRRD0004\ntype: short\n", "an NRRD volume"),
        (b"ObjectType = Image\nNDims = 3\n", "a MetaImage volume"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "a MINC 2 volume"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "a MATLAB file"),
        (b"RIFF\0\0\0\0AVI " + b"\0" * 99, "a video"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_foreign_format_is_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=f"not an image that can be read here, but {name}.*; "):
        decode(data)


@pytest.mark.parametrize("text", [b"BMI,age\n21,40\n" * 20, b"hello", "data".encode("utf-16")])
def test_a_text_is_no_damaged_image(text: bytes) -> None:
    assert foreign_format(text) is None
    with pytest.raises(ImageError, match="not an image that can be read here"):
        decode(text)


def test_where_the_middle_slice_is_blank_the_nearest_with_content_is_used() -> None:
    for data in (
        dicom(np.stack([SCAN, SCAN, BLANK, BLANK, BLANK]).astype(np.uint16)),
        stack(SCAN, SCAN, BLANK, BLANK, BLANK),
        nifti(np.stack([SCAN, SCAN, BLANK, BLANK, BLANK], axis=2).astype(np.float32)),
    ):
        decoded = decode(data)
        assert decoded.number == 2
        assert "2 of 5 used; the middle one is blank" in decoded.notes[0]
    with pytest.raises(ImageError, match="no content: nothing is visible on any of 5 slices"):
        decode(stack(*[BLANK] * 5))


def test_noise_and_specks_are_no_content() -> None:
    generator = np.random.default_rng(0)
    noise = np.hypot(*generator.standard_normal((2, 128, 128))).astype(np.float32)
    specks = np.where(generator.uniform(size=(128, 128)) > 0.999, SCAN.max(), 0).astype(np.float32)
    assert not shows_head(reduce_to_bytes(noise))
    assert not shows_head(reduce_to_bytes(specks))
    head = np.pad(texture(1, 64) // 2 + 100, 32).astype(np.float32)
    assert decode(nifti(np.stack([head, noise, noise, specks, noise], axis=2))).number == 1
    assert decode(nifti(np.stack([noise, specks, noise], axis=2))).number == 2  # nothing is better than the middle


def test_of_many_slices_few_are_tried() -> None:
    values = np.zeros((40, 40, 1000), np.int16)
    values[..., 980:] = texture(0, 40)[..., None]
    decoded = decode(nifti(values))
    assert 980 < decoded.number <= 1000


def test_more_than_the_range_of_8_bits_is_not_clipped_twice() -> None:
    values = SCAN.astype(np.float32)
    assert np.abs(reduce_to_bytes(values).astype(int) - SCAN).max() <= 1
    values[0, 0] = 1e6  # a hot pixel takes half of the range at most
    assert reduce_to_bytes(values)[SCAN.max() == SCAN].min() >= 120
