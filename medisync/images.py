"""THE way from bytes to tensors: training, evaluation, batch prediction and uploads all come through here.

Three steps, each with one pixel range:

1. `decode`: bytes -> grey uint8 [H, W], upright, or an ImageError that says what is wrong (in `decoding`).
2. `standardise`: grey uint8 [H, W] -> uint8 [S, S]: cut to the head, padded to a square, intensities stretched.
3. `normalise`: uint8 [N, S, S] -> float [N, 3, S, S]: grey repeated to RGB, ImageNet mean and standard deviation.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medisync import lifeline
from medisync.decoding import MIN_SIDE, stretch
from medisync.decoding import Decoded as Decoded  # callers take these from here
from medisync.decoding import Pixels as Pixels
from medisync.decoding import decode as decode
from medisync.decoding import file_bytes as file_bytes
from medisync.decoding import percentiles as percentiles
from medisync.errors import DataError, ImageError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""What counts as an image in a hospital's dataset."""

UPLOAD_SUFFIXES = (*sorted(IMAGE_SUFFIXES), ".dcm", ".nii", ".nii.gz")
"""What a prediction takes: also one slice of a volume."""

PIPELINE_VERSION = 2
"""Goes into the cache's key: raise it with any change to `decode` or `standardise`."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standardise(pixels: Pixels, size: int) -> Pixels:
    """Cuts to the head, pads with black to a square, resizes to [size, size] and stretches the intensities.

    Scanners differ in margins, aspect and window; none of that tells a tumour, all of it tells a hospital.
    """
    resized = Image.fromarray(pad_to_square(pixels[head_box(pixels)])).resize(
        (size, size), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return stretch(np.asarray(resized))


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
    threshold = max(8.0, 0.1 * percentiles(pixels, 99)[0])
    bright = pixels > np.uint8(threshold)  # whole numbers above a threshold are above what it is rounded down to
    rows, columns = (np.flatnonzero(_shares(bright, axis) > 0.03) for axis in (1, 0))
    if len(rows) < MIN_SIDE // 2 or len(columns) < MIN_SIDE // 2:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _shares(flags: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """The mean along an axis; counted in 16 bits, in a quarter of numpy's time."""
    return flags.sum(axis=axis, dtype=np.uint16) / flags.shape[axis]


def normalise(pixels: "torch.Tensor") -> "torch.Tensor":
    """uint8, or float32 in the same range, [N, S, S] -> float32 [N, 3, S, S] in ImageNet's range, channels last in memory, on
    the same device.
    """
    import torch

    mean = pixels.new_tensor(IMAGENET_MEAN, dtype=torch.float32)
    std = pixels.new_tensor(IMAGENET_STD, dtype=torch.float32)
    return torch.addcmul(-mean / std, pixels.unsqueeze(-1).to(torch.float32), 1 / (255 * std)).permute(0, 3, 1, 2)


def resize(pixels: "torch.Tensor", size: int) -> "torch.Tensor":
    """uint8 [N, S, S] -> uint8 [N, size, size]; as it is for 0 or S."""
    if size in (0, pixels.shape[-1]):
        return pixels
    from torchvision.transforms.v2 import functional

    smaller: torch.Tensor = functional.resize(pixels, [size, size], antialias=True)
    return smaller


def augment(pixels: "torch.Tensor", generator: "torch.Generator", part: float = 1.0) -> "torch.Tensor":
    """Mirrors half of a batch and shifts, turns, scales and re-windows each image a little; uint8 [N, S, S] both ways.

    Limits: 12 degrees, 6 % shift, 10 % scale, 20 % contrast, 10 % brightness, gamma 0.8 to 1.25. With a `part` below 1 each image
    is before that enlarged until a share of its side from `part` to 1 fills all of it, at a place of its own.
    """
    import torch
    from torch.nn import functional

    count = len(pixels)
    uniform = (torch.rand(count, 8, generator=generator) * 2 - 1).to(pixels.device)  # each in [-1, 1]
    transform = _affine(uniform) if part == 1 else _enlarged(_affine(uniform), part, generator)
    grid = functional.affine_grid(transform, [count, 1, *pixels.shape[1:]], align_corners=False)
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


def _enlarged(transform: "torch.Tensor", part: float, generator: "torch.Generator") -> "torch.Tensor":
    """The same [N, 2, 3] for parts of the images. They keep off the edges, where there is little but black."""
    import torch

    uniform = torch.rand(len(transform), 3, 1, generator=generator).to(transform.device)
    share, places = 1 - (1 - part) * uniform[:, :1], 2 * uniform[:, 1:] - 1
    linear, shift = transform[:, :, :2], transform[:, :, 2:]
    return torch.cat([linear * share, shift * share + places * (0.7 * (1 - share))], dim=2)


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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"could not make {target.parent.name}/: {error.strerror or error}") from None
    partial_file = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        cache = _claim_cache(partial_file, (len(files), size, size))
        for index, pixels in enumerate(map_files(partial(_load_standardised, size=size), files)):
            cache[index] = pixels
            on_image(1)
        cache.flush()
        partial_file.replace(target)
    finally:
        partial_file.unlink(missing_ok=True)


def _claim_cache(file: Path, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """A new file mapped into memory, with its room on the disk: a full disk met later would kill the process."""
    try:
        cache = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):
            with file.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    except OSError as error:
        raise DataError(f"no room for the decoded images in {file.parent.name}/: {error.strerror or error}") from None
    return cache


def _load_standardised(file: tuple[Path, str], size: int) -> Pixels:
    path, digest = file
    try:
        data = file_bytes(path)
    except ImageError as error:
        raise DataError(f"{path.name}: gone since the audit ({error}); run the notebook again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{path.name}: changed since the audit; run the notebook again")
    return standardise(decode(data).pixels, size)


def map_files(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` over `items` on all cores, in order; small inputs stay in this process. If it is killed, no worker stays."""
    items = list(items)
    workers = os.cpu_count() or 1
    if len(items) < 64 or workers == 1:
        yield from map(function, items)
        return
    me = os.getpid()  # said by name: a worker that starts while this process is killed has another parent already
    with ProcessPoolExecutor(workers, initializer=lifeline.end_with, initargs=(me,)) as pool:
        yield from pool.map(function, items, chunksize=32)
