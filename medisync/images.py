"""THE way from bytes to tensors: training, evaluation, batch prediction and uploads all come through here.

Three steps, each with one pixel range:

1. `decode`: bytes -> grey uint8 [H, W], upright, or an ImageError that says what is wrong.
2. `standardise`: grey uint8 [H, W] -> uint8 [S, S]: cut to the head, padded to a square, intensities stretched.
3. `normalise`: uint8 [N, S, S] -> float [N, 3, S, S]: grey repeated to RGB, ImageNet mean and standard deviation.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medisync.errors import DataError, ImageError

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""What counts as an image in a hospital's dataset."""

UPLOAD_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".nii", ".nii.gz")
"""What a prediction takes: also one slice of a volume."""

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
VOLUMES = ("DICOM", "NIfTI")
MAX_PIXELS = 40_000_000
MIN_SIDE = 32
MAX_ASPECT = 4.0
MIN_CONTRAST = 8
"""Grey levels between the darkest and the brightest percent of an image that shows something."""

JPEG_END = b"\xff\xd9"

PIPELINE_VERSION = 1
"""Goes into the cache's key: raise it with any change to `decode` or `standardise`."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Decoded:
    """A grey image, uint8 [H, W], with what a person should know about the file it came from."""

    pixels: Pixels
    width: int
    height: int
    mode: str
    colourfulness: float
    """Mean difference between colour channels, in [0, 1]; an MRI slice is near 0."""
    notes: tuple[str, ...]
    slices: int = 1
    """How many the file has; this is one of them."""


def decode(data: bytes, slice_number: int | None = None) -> Decoded:
    """Decodes an image file completely, to grey; of a DICOM or NIfTI volume one slice, the middle one unless it is named.

    Raises ImageError with one sentence for anything that is no complete image of sensible size and content. Metadata
    (EXIF, text chunks) is read for the orientation alone and goes nowhere.
    """
    if not data:
        raise ImageError("the file is empty")
    if _begins_like_volume(data):
        return _decode_volume(data, slice_number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about metadata and sizes; what matters to us is raised
        image = _open(data)
        _check_geometry(*image.size)
        if _lacks_end_marker(data):
            return _decode_pixels(_complete(data), ["the file lacks its end marker"])
        return _decode_pixels(image, [])


def _begins_like_volume(data: bytes) -> bool:
    """DICOM, gzip (of NIfTI), NIfTI-1 or NIfTI-2."""
    return data[128:132] == b"DICM" or data[:2] == b"\x1f\x8b" or data[344:348] == b"n+1\x00" or data[4:8] == b"n+2\x00"


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"not an image that can be read here (accepted: {', '.join((*FORMATS, *VOLUMES))})") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than the limit of {MAX_PIXELS // 10**6} million pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"the image is damaged ({_short(error)})") from None


def _check_geometry(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 10**6} million pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT:g} times the other; not a scan")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} pixels: too small, at least {MIN_SIDE} x {MIN_SIDE} is needed")


def _lacks_end_marker(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8") and JPEG_END not in data[-4096:]


def _complete(data: bytes) -> Image.Image:
    """A JPEG with the end marker that it lacks. Raises ImageError unless all its pixels are there.

    What a decoder reads after the last pixel changes nothing; what it reads in place of missing pixels does.
    """
    endings = [_open(data + filling * 64 + JPEG_END) for filling in (b"\x00", b"\xaa")]
    try:
        one, other = (np.asarray(image) for image in endings)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"the image is damaged ({_short(error)})") from None
    if not np.array_equal(one, other):
        raise ImageError("the image is damaged (the file ends before the last pixel)")
    return _open(data + JPEG_END)


def _decode_pixels(image: Image.Image, file_notes: list[str]) -> Decoded:
    mode, (width, height) = image.mode, image.size
    if getattr(image, "n_frames", 1) > 1:
        file_notes = [*file_notes, f"first of {getattr(image, 'n_frames', 1)} frames used"]
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        pixels, colourfulness, conversion_notes = _to_grey(upright)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(f"the image is damaged ({_short(error)})") from None
    _require_content(pixels)
    return Decoded(pixels, width, height, mode, colourfulness, (*file_notes, *conversion_notes))


def _require_content(pixels: Pixels) -> None:
    low, high = np.percentile(pixels, (1, 99))
    if high - low < MIN_CONTRAST and int(pixels.max()) - int(pixels.min()) < 4 * MIN_CONTRAST:
        raise ImageError("the image has no content: all its pixels are nearly the same")


def _decode_volume(data: bytes, slice_number: int | None) -> Decoded:
    from medisync import volumes

    found = volumes.read_slice(data, slice_number)
    height, width = found.values.shape[:2]
    _check_geometry(width, height)
    notes, colourfulness = list(found.notes), 0.0
    if found.values.ndim == 3:
        pixels, colourfulness, colour_notes = _to_grey(Image.fromarray(found.values))
        notes += colour_notes
    else:
        pixels = found.values if found.values.dtype == np.uint8 else _scale_high_depth(found.values)
    _require_content(pixels)
    return Decoded(pixels, width, height, found.kind, colourfulness, tuple(notes), found.count)


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:80] or type(error).__name__


def _to_grey(image: Image.Image) -> tuple[Pixels, float, list[str]]:
    if image.mode.startswith(("I", "F")):
        return _scale_high_depth(np.asarray(image)), 0.0, [f"{image.mode} intensities scaled to 8 bit by percentiles"]
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L")), 0.0, []
    notes = []
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), with_alpha)
        notes.append("transparency placed on black")
    colour = image.convert("RGB")
    colourfulness = _colourfulness(colour)
    if colourfulness > 0.02:
        notes.append("colour dropped")
    return np.asarray(colour.convert("L")), colourfulness, notes


def _colourfulness(image: Image.Image) -> float:
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    return float(np.mean(small.max(axis=2) - small.min(axis=2)) / 255)


def _scale_high_depth(values: NDArray[np.generic]) -> Pixels:
    """16-bit and floating-point intensities to 8 bit, from the 0.5th to the 99.5th percentile."""
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ImageError("the image holds values that are not finite (NaN or infinity)")
    return _stretch(numbers, 0.5, 99.5)


def _stretch(values: NDArray[np.floating], low_percentile: float, high_percentile: float) -> Pixels:
    low, high = np.percentile(values, (low_percentile, high_percentile))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def standardise(pixels: Pixels, size: int) -> Pixels:
    """Cuts to the head, pads with black to a square, resizes to [size, size] and stretches the intensities.

    Scanners differ in margins, aspect and window; none of that tells a tumour, all of it tells a hospital.
    """
    resized = Image.fromarray(pad_to_square(pixels[head_box(pixels)])).resize(
        (size, size), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return _stretch(np.asarray(resized, dtype=np.float32), 0.5, 99.5)


def pad_to_square(pixels: Pixels) -> Pixels:
    """[H, W] -> [S, S] with S the longer side, black around the image in its middle."""
    height, width = pixels.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square


def head_box(pixels: Pixels) -> tuple[slice, slice]:
    """The rows and columns inside the dark margins: of those left out less than 3 % is brighter than a tenth of the bright
    pixels. The whole image where hardly anything would be left.
    """
    threshold = max(8.0, 0.1 * float(np.percentile(pixels, 99)))
    bright = pixels > threshold
    rows = np.flatnonzero(bright.mean(axis=1) > 0.03)
    columns = np.flatnonzero(bright.mean(axis=0) > 0.03)
    if len(rows) < MIN_SIDE // 2 or len(columns) < MIN_SIDE // 2:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def normalise(pixels: "torch.Tensor") -> "torch.Tensor":
    """uint8 [N, S, S] -> float32 [N, 3, S, S] in ImageNet's range, channels last in memory, on the same device."""
    import torch

    mean = pixels.new_tensor(IMAGENET_MEAN, dtype=torch.float32).view(1, 3, 1, 1)
    std = pixels.new_tensor(IMAGENET_STD, dtype=torch.float32).view(1, 3, 1, 1)
    grey = pixels.unsqueeze(1).to(torch.float32).div_(255)
    return ((grey - mean) / std).contiguous(memory_format=torch.channels_last)


def resize(pixels: "torch.Tensor", size: int) -> "torch.Tensor":
    """uint8 [N, S, S] -> uint8 [N, size, size]; as it is for 0 or S."""
    if size in (0, pixels.shape[-1]):
        return pixels
    from torchvision.transforms.v2 import functional

    smaller: torch.Tensor = functional.resize(pixels, [size, size], antialias=True)
    return smaller


def augment(pixels: "torch.Tensor", generator: "torch.Generator") -> "torch.Tensor":
    """Mirrors half of a batch and shifts, turns, scales and re-windows each image a little; uint8 [N, S, S] both ways.

    Limits: 12 degrees, 6 % shift, 10 % scale, 20 % contrast, 10 % brightness, gamma 0.8 to 1.25.
    """
    import torch
    from torch.nn import functional

    count = len(pixels)
    uniform = (torch.rand(count, 8, generator=generator) * 2 - 1).to(pixels.device)  # each in [-1, 1]
    grid = functional.affine_grid(_affine(uniform), [count, 1, *pixels.shape[1:]], align_corners=False)
    images = pixels.unsqueeze(1).to(torch.float32).div_(255)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast, brightness, gamma = (uniform[:, i].view(-1, 1, 1, 1) for i in (5, 6, 7))
    images = images.clamp_(0, 1).pow(1.25**gamma) * (1 + 0.2 * contrast) + 0.1 * brightness * (images > 0.04)
    return images.squeeze(1).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _affine(uniform: "torch.Tensor") -> "torch.Tensor":
    """[N, >=5] in [-1, 1] -> [N, 2, 3] for affine_grid: mirror, rotation, scale, shift."""
    import torch

    mirror = torch.where(uniform[:, 0] < 0, -1.0, 1.0)
    angle = uniform[:, 1] * (12 * torch.pi / 180)
    scale = 1 + 0.1 * uniform[:, 2]
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = 0.12 * uniform[:, 3:5]  # grid coordinates span [-1, 1]: 0.12 is 6 % of the side
    upper = torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1)
    lower = torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1)
    return torch.stack([upper, lower], dim=1)


def open_cache(
    files: Sequence[tuple[Path, str]],
    size: int,
    folder: Path,
    on_image: Callable[[int], None] = lambda count: None,
) -> Pixels:
    """The standardised images as one read-only memory-mapped array, uint8 [N, size, size], in the order of `files`.

    `files` are (path, SHA-256 of the bytes). The cache is keyed by content and size, decoded on all cores when it is
    not there yet, and safe to delete. Raises DataError where a file is no longer the one that was audited.
    """
    key = hashlib.sha256("\n".join([f"{PIPELINE_VERSION} {size}", *(digest for _, digest in files)]).encode())
    target = folder / f"{key.hexdigest()[:24]}-{size}.npy"
    if not target.exists():
        _build_cache(files, size, target, on_image)
    return np.load(target, mmap_mode="r")


def _build_cache(files: Sequence[tuple[Path, str]], size: int, target: Path, on_image: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_file = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        cache = np.lib.format.open_memmap(partial_file, "w+", np.uint8, (len(files), size, size))
        for index, pixels in enumerate(map_files(partial(_load_standardised, size=size), files)):
            cache[index] = pixels
            on_image(1)
        cache.flush()
        partial_file.replace(target)
    finally:
        partial_file.unlink(missing_ok=True)


def _load_standardised(file: tuple[Path, str], size: int) -> Pixels:
    path, digest = file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name}: gone since the audit ({error.strerror}); run the notebook again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{path.name}: changed since the audit; run the notebook again")
    return standardise(decode(data).pixels, size)


def map_files(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` over `items` on all cores, in order; small inputs stay in this process."""
    items = list(items)
    workers = os.cpu_count() or 1
    if len(items) < 64 or workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(function, items, chunksize=32)
