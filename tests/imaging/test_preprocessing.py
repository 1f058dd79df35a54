"""Bytes to pixels: accepted files with their notes, and refusals with their reasons; caches and worker processes."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_inputs import encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from scans import save, texture

from medisync.data.cache import open_cache
from medisync.data.parallel import map_files
from medisync.errors import DataError, ImageError
from medisync.imaging.decoding import decode
from medisync.imaging.intensities import percentiles, stretch
from medisync.imaging.preprocessing import IMAGENET_MEAN, IMAGENET_STD, head_box, normalise, resize, standardise

SCAN = texture(0, 128)


PNG, JPEG = encoded(SCAN), encoded(SCAN, "JPEG", quality=90)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM"):
        with pytest.raises(ImageError):
            decode(head + data)


@given(st.integers(0, len(JPEG) - 1), st.integers(1, 255))
def test_a_flipped_byte_of_a_jpeg_is_refused_or_decoded(position: int, flip: int) -> None:
    broken = JPEG[:position] + bytes([JPEG[position] ^ flip]) + JPEG[position + 1 :]
    try:
        decoded = decode(broken)
    except ImageError:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.ndim == 2


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF", "TIFF"])
def test_every_accepted_format_is_decoded(kind: str) -> None:
    decoded = decode(encoded(SCAN, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(decoded.pixels, SCAN)
    assert decoded.notes == ()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 20}], ids=str
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_has_the_pixels_that_pillow_decodes(mode: str, options: dict[str, Any], turned: bool) -> None:
    """Models were trained on Pillow's pixels, so simplejpeg must give the same ones."""
    image = Image.merge("RGB", [Image.fromarray(texture(seed, 128)[:90]) for seed in range(3)]).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter turn
    data = encoded(image, "JPEG", **options, **({"exif": exif} if turned else {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, np.asarray(expected.convert("RGB").convert("L")))
    assert decoded.pixels.shape == ((128, 90) if turned else (90, 128)) == (decoded.height, decoded.width)
    assert decoded.mode == mode


def test_floats_are_scaled_with_a_note() -> None:
    decoded = decode(encoded(SCAN.astype(np.float32) / 7, "TIFF"))
    assert decoded.notes == ("F intensities scaled to 8 bit by percentiles",)
    assert np.corrcoef(decoded.pixels.ravel(), SCAN.ravel())[0, 1] > 0.99


def test_transparent_parts_are_black() -> None:
    image = Image.merge("LA", (Image.new("L", (64, 64), 255), Image.fromarray(np.eye(64, dtype=np.uint8) * 255)))
    assert decode(encoded(image)).pixels.tolist() == (np.eye(64, dtype=int) * 255).tolist()


def head(height: int, width: int, *, at: tuple[int, int] = (40, 30), size: tuple[int, int] = (100, 80)) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = texture(1, 100)[: size[0], : size[1]] // 2 + 60
    return pixels


def test_margins_are_cut_to_the_head() -> None:
    image = head(256, 200)
    assert image[head_box(image)].shape == (100, 80)


def test_percentiles_equal_numpys_to_the_last_bit() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        pixels = generator.integers(0, generator.integers(1, 257), generator.integers(1, 50, 2), np.uint8)
        wanted = [*generator.uniform(0, 100, 3).tolist(), 0, 0.5, 50, 100]
        assert np.array_equal(percentiles(pixels, *wanted), np.percentile(pixels, wanted))


def test_a_stretched_image_is_rounded_as_in_doubles() -> None:
    """In single precision 81 of these 1000 images would differ from the pixels that models were trained on."""
    generator = np.random.default_rng(0)
    for _ in range(1000):
        pixels = generator.integers(0, generator.integers(20, 257), generator.integers(10, 50, 2), np.uint8)
        low, high = np.percentile(pixels, (0.5, 99.5))
        expected = np.clip(np.rint((pixels.astype(np.float64) - low) * (255 / (high - low))), 0, 255)
        assert np.array_equal(stretch(pixels), expected)


def test_standardise_pads_to_a_square_and_fills_the_range() -> None:
    standard = standardise(head(256, 200), 64)
    assert standard.shape == (64, 64)
    assert (standard.min(), standard.max()) == (0, 255)
    assert standard[:, :6].max() == 0  # 80 of 100 columns: 6 of 64 are padding on each side
    assert standard[:, 8:56].mean() > 60


def test_the_same_head_in_another_place_and_window_is_nearly_the_same() -> None:
    there = standardise(head(256, 200), 64).astype(int)
    here = standardise((head(180, 170, at=(60, 70)) * 0.7).astype(np.uint8), 64).astype(int)
    assert np.abs(there - here).mean() < 4


def test_normalise_repeats_grey_into_imagenets_range() -> None:
    batch = normalise(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert batch.shape == (1, 3, 1, 2)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        assert batch[0, channel, 0].tolist() == pytest.approx([-mean / std, (1 - mean) / std], abs=1e-6)


def files(folder: Path, count: int = 3) -> list[tuple[Path, str]]:
    from medisync.workspace.artifacts import sha256

    paths = [save(folder / f"{seed}.png", texture(seed)) for seed in range(count)]
    return [(path, sha256(path)) for path in paths]


def test_the_cache_holds_the_standardised_images_and_is_reused(tmp_path: Path) -> None:
    listed = files(tmp_path)
    decoded: list[int] = []
    cache = open_cache(listed, 64, tmp_path / "cache", decoded.append)
    assert cache.shape == (3, 64, 64)
    assert (cache[1] == standardise(texture(1), 64)).all()
    for path, _ in listed:
        path.unlink()  # the second call must not decode again
    again = open_cache(listed, 64, tmp_path / "cache", decoded.append)
    assert (again == cache).all()
    assert decoded == [1, 1, 1]


def test_the_cache_is_read_only_and_leaves_no_partial_file(tmp_path: Path) -> None:
    cache = open_cache(files(tmp_path), 64, tmp_path / "cache")
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
        open_cache(listed, 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_items_are_mapped_in_order_on_all_cores() -> None:
    assert list(map_files(abs, range(-200, 0))) == list(range(200, 0, -1))
    assert list(map_files(abs, [-1])) == [1]


WORK_WITHOUT_END = """
import os
import time
from medisync.data.parallel import map_files

def work(number):
    os.write(1, b"works\\n")  # in one call: prints of two workers could interleave
    time.sleep(3600)

list(map_files(work, range(64)))
"""


def test_workers_end_with_a_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WORK_WITHOUT_END], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        process.kill()
        process.communicate(timeout=600)  # the pipe closes once the workers, which hold it too, have ended


def test_a_worker_whose_parent_ended_before_it_started_to_watch_ends_too() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    late = f"import time; from medisync import parent_watch; parent_watch.end_with({gone.pid}); time.sleep(3600)"
    assert subprocess.run([sys.executable, "-c", late], timeout=600, check=False).returncode == 1


def test_workers_started_by_a_fork_server_live_as_long_as_the_process_that_uses_them() -> None:
    code = (
        "import multiprocessing\nfrom medisync.data.parallel import map_files\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('forkserver')\n"
        "    print(sum(map_files(abs, range(-64, 0))))"
    )
    found = subprocess.run([sys.executable, "-c", code], timeout=600, check=True, capture_output=True, text=True)
    assert found.stdout == "2080\n"


def test_resizing_averages_the_pixels_that_become_one() -> None:
    tiles = torch.tensor([[0, 100], [200, 60]], dtype=torch.uint8).repeat_interleave(16, 0).repeat_interleave(16, 1)
    smaller = resize(tiles[None], 16)[0]
    assert smaller.dtype == torch.uint8
    assert smaller[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 100, 200, 60]
    assert torch.equal(resize(tiles[None], 32)[0], tiles)
    assert torch.equal(resize(tiles[None], 0)[0], tiles)
