"""Bytes to pixels: what is accepted with which note, and the sentence for everything that is refused."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scans import save, texture

from medisync import images
from medisync.errors import DataError, ImageError

SCAN = texture(0, 128)


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def empty_png(width: int, height: int) -> bytes:
    """A small file that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def with_wrong_crc(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 10
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


PNG, JPEG = encoded(SCAN), encoded(SCAN, "JPEG", quality=90)
NOT_A_NUMBER = np.where(SCAN > 250, np.nan, SCAN).astype(np.float32)
REFUSED = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"x", "not an image"),
    "text": (b"hello, world\n" * 50, "not an image"),
    "HTML": (b"<!doctype html><html><body>404</body></html>", "not an image"),
    "half a PNG": (PNG[: len(PNG) // 2], "damaged"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "damaged"),
    "wrong CRC": (with_wrong_crc(PNG), "damaged"),
    "20000 x 20000": (empty_png(20000, 20000), "limit of 40 million pixels"),
    "12000 x 12000": (empty_png(12000, 12000), "12000 x 12000 pixels, more than the limit of 40 million"),
    "9000 x 9000": (empty_png(9000, 9000), "9000 x 9000 pixels, more than the limit of 40 million"),
    "1 x 1": (encoded(np.zeros((1, 1), np.uint8)), "too small, at least 32 x 32"),
    "1 x 5000": (encoded(np.zeros((5000, 1), np.uint8)), "one side is over 4 times the other"),
    "black": (encoded(np.zeros((64, 64), np.uint8)), "no content"),
    "white": (encoded(np.full((64, 64), 255, np.uint8)), "no content"),
    "NaN": (encoded(NOT_A_NUMBER, "TIFF"), "not finite"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "not an image"),
    "PDF": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not an image"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', "not an image"),
}


@pytest.mark.parametrize(("data", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence) as error:
        images.decode(data)
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_from_its_header() -> None:
    started = time.process_time()
    with pytest.raises(ImageError, match="limit"):
        images.decode(empty_png(20000, 20000))
    assert time.process_time() - started < 1  # decoding 400 million pixels takes seconds


@given(st.binary(max_size=400))
def test_bytes_are_decoded_or_refused_never_anything_else(data: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM"):
        with pytest.raises(ImageError):
            images.decode(head + data)


@given(st.integers(0, len(JPEG) - 1), st.integers(1, 255))
def test_a_flipped_byte_of_a_jpeg_is_refused_or_decoded(position: int, flip: int) -> None:
    broken = JPEG[:position] + bytes([JPEG[position] ^ flip]) + JPEG[position + 1 :]
    try:
        decoded = images.decode(broken)
    except ImageError:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.ndim == 2


def cmyk() -> bytes:
    return encoded(Image.fromarray(SCAN).convert("CMYK"), "JPEG")


def palette() -> bytes:
    return encoded(Image.fromarray(np.stack([SCAN, SCAN[::-1], SCAN.T], axis=2)).quantize(32))


def transparent() -> bytes:
    return encoded(Image.merge("LA", (Image.fromarray(SCAN), Image.new("L", (128, 128), 200))))


def animated() -> bytes:
    frames = [Image.fromarray(texture(seed, 128)) for seed in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


ACCEPTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG without its end marker": (lambda: JPEG.removesuffix(b"\xff\xd9"), "lacks its end marker"),
    "16 bit": (lambda: encoded(SCAN.astype(np.uint16) * 16), "scaled to 8 bit by percentiles"),
    "float": (lambda: encoded(SCAN.astype(np.float32) / 7, "TIFF"), "scaled to 8 bit by percentiles"),
    "CMYK": (cmyk, ""),
    "palette": (palette, "colour dropped"),
    "1 bit": (lambda: encoded(Image.fromarray(SCAN > 128)), ""),
    "grey with transparency": (transparent, "transparency placed on black"),
    "several frames": (animated, "first of 3 frames used"),
    "with a ZIP behind it": (lambda: PNG + b"PK\x03\x04" + b"\0" * 100, ""),
    "WebP": (lambda: encoded(SCAN, "WEBP"), ""),
    "BMP": (lambda: encoded(SCAN, "BMP"), ""),
}


@pytest.mark.parametrize(("make", "note"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted_with_a_note(make: Callable[[], bytes], note: str) -> None:
    decoded = images.decode(make())
    assert decoded.pixels.shape == (128, 128)
    assert decoded.pixels.dtype == np.uint8
    assert any(note in said for said in decoded.notes) if note else not decoded.notes


def test_sixteen_bits_keep_their_contrast() -> None:
    """A 12-bit scan in a 16-bit file uses a sixteenth of the range: neither black nor white."""
    decoded = images.decode(encoded(SCAN.astype(np.uint16) * 16))
    assert np.corrcoef(decoded.pixels.ravel(), SCAN.ravel())[0, 1] > 0.99
    assert decoded.pixels.max() == 255


def test_transparent_parts_are_black() -> None:
    image = Image.merge("LA", (Image.new("L", (64, 64), 255), Image.fromarray(np.eye(64, dtype=np.uint8) * 255)))
    assert images.decode(encoded(image)).pixels.tolist() == (np.eye(64, dtype=int) * 255).tolist()


def test_the_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    wide = np.vstack([np.zeros((32, 128), np.uint8), np.full((32, 128), 200, np.uint8)])
    decoded = images.decode(encoded(wide, "JPEG", exif=exif))
    assert decoded.pixels.shape == (128, 64)
    assert decoded.pixels[:, :28].mean() > 190
    assert decoded.pixels[:, 36:].mean() < 10


def test_text_in_the_file_goes_nowhere(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("PatientName", "DOE^JANE")
    assert "DOE" not in repr(images.decode(encoded(SCAN, pnginfo=info)))


def head(height: int, width: int, *, at: tuple[int, int] = (40, 30), size: tuple[int, int] = (100, 80)) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = texture(1, 100)[: size[0], : size[1]] // 2 + 60
    return pixels


def test_margins_are_cut_to_the_head() -> None:
    image = head(256, 200)
    assert image[images.head_box(image)].shape == (100, 80)


def test_standardise_pads_to_a_square_and_fills_the_range() -> None:
    standard = images.standardise(head(256, 200), 64)
    assert standard.shape == (64, 64)
    assert (standard.min(), standard.max()) == (0, 255)
    assert standard[:, :6].max() == 0  # 80 of 100 columns: 6 of 64 are padding on each side
    assert standard[:, 8:56].mean() > 60


def test_the_same_head_in_another_place_and_window_is_nearly_the_same() -> None:
    there = images.standardise(head(256, 200), 64).astype(int)
    here = images.standardise((head(180, 170, at=(60, 70)) * 0.7).astype(np.uint8), 64).astype(int)
    assert np.abs(there - here).mean() < 4


def test_normalise_repeats_grey_into_imagenets_range() -> None:
    batch = images.normalise(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert batch.shape == (1, 3, 1, 2)
    for channel, (mean, std) in enumerate(zip(images.IMAGENET_MEAN, images.IMAGENET_STD, strict=True)):
        assert batch[0, channel, 0].tolist() == pytest.approx([-mean / std, (1 - mean) / std], abs=1e-6)


def test_augmentation_is_seeded_mirrors_half_and_keeps_the_shape() -> None:
    batch = torch.from_numpy(np.repeat(head(128, 128, at=(14, 4))[None], 200, axis=0))
    once, again = (images.augment(batch, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, images.augment(batch, torch.Generator().manual_seed(2)))
    assert once.shape == batch.shape
    assert once.dtype == torch.uint8
    columns = torch.arange(128.0)
    weight = once.float().mean(dim=1)
    centres = (weight * columns).sum(dim=1) / weight.sum(dim=1)
    assert (centres > 63.5).float().mean().item() == pytest.approx(0.5, abs=0.12)  # the head lies on the left


def files(folder: Path, count: int = 3) -> list[tuple[Path, str]]:
    from medisync.artifacts import sha256

    paths = [save(folder / f"{seed}.png", texture(seed)) for seed in range(count)]
    return [(path, sha256(path)) for path in paths]


def test_the_cache_holds_the_standardised_images_and_is_reused(tmp_path: Path) -> None:
    listed = files(tmp_path)
    decoded: list[int] = []
    cache = images.open_cache(listed, 64, tmp_path / "cache", decoded.append)
    assert cache.shape == (3, 64, 64)
    assert (cache[1] == images.standardise(texture(1), 64)).all()
    for path, _ in listed:
        path.unlink()  # decoded once, never again
    again = images.open_cache(listed, 64, tmp_path / "cache", decoded.append)
    assert (again == cache).all()
    assert decoded == [1, 1, 1]


def test_the_cache_is_read_only_and_left_whole(tmp_path: Path) -> None:
    cache = images.open_cache(files(tmp_path), 64, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        cache[0] = 0
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_file_that_is_not_the_audited_one_is_refused(tmp_path: Path, change: str) -> None:
    listed = files(tmp_path)
    if change == "gone":
        listed[1][0].unlink()
    else:
        save(listed[1][0], texture(99))
    with pytest.raises(DataError, match=rf"1\.png: {change} since the audit"):
        images.open_cache(listed, 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_are_mapped_in_order_on_all_cores() -> None:
    assert list(images.map_files(abs, range(-200, 0))) == list(range(200, 0, -1))
    assert list(images.map_files(abs, [-1])) == [1]


def test_resizing_averages_what_becomes_one_pixel() -> None:
    tiles = torch.tensor([[0, 100], [200, 60]], dtype=torch.uint8).repeat_interleave(16, 0).repeat_interleave(16, 1)
    smaller = images.resize(tiles[None], 16)[0]
    assert smaller.dtype == torch.uint8
    assert smaller[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 100, 200, 60]
    assert torch.equal(images.resize(tiles[None], 32)[0], tiles)
    assert torch.equal(images.resize(tiles[None], 0)[0], tiles)
