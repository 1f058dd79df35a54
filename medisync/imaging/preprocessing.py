"""The only path from bytes to tensors: training, evaluation, batch prediction and uploads all use it.

Three steps, each with one pixel range:

1. `decoding.decode`: bytes -> grey uint8 [H, W], upright, or an ImageError that says what is wrong.
2. `standardise`: grey uint8 [H, W] -> uint8 [S, S]: cut to the head, padded to a square, intensities stretched.
3. `normalise`: uint8 [N, S, S] -> float [N, 3, S, S]: grey repeated to RGB, ImageNet mean and standard deviation.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medisync.imaging.intensities import Pixels, percentiles, stretch
from medisync.imaging.limits import MIN_SIDE

if TYPE_CHECKING:
    import torch

PIPELINE_VERSION = 3
"""Part of the cache's key: increase it with any change to `decode` or `standardise`."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standardise(pixels: Pixels, size: int) -> Pixels:
    """Cuts to the head, pads with black to a square, resizes to [size, size] and stretches the intensities.

    Scanners differ in margins, aspect and window, which reveal the hospital and nothing about a tumour.
    """
    resized = Image.fromarray(pad_to_square(pixels[head_box(pixels)])).resize(
        (size, size), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return stretch(np.asarray(resized))


def pad_to_square(pixels: Pixels) -> Pixels:
    """Pads [H, W] with black to [S, S], where S is the longer side; the image is in the middle."""
    height, width = pixels.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square


def head_box(pixels: Pixels) -> tuple[slice, slice]:
    """Returns the rows and columns inside the dark margins, or the whole image if hardly anything would be left.

    A row or column belongs to the margin if at most 3 % of its pixels are brighter than a tenth of the 99th percentile.
    """
    threshold = max(8.0, 0.1 * percentiles(pixels, 99)[0])
    bright = pixels > np.uint8(threshold)  # whole numbers above a threshold are above what it is rounded down to
    rows, columns = (np.flatnonzero(_bright_fractions(bright, axis) > 0.03) for axis in (1, 0))
    if len(rows) < MIN_SIDE // 2 or len(columns) < MIN_SIDE // 2:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _bright_fractions(flags: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Returns the mean along an axis; counting in 16 bits takes a quarter of the time of `numpy.mean`."""
    return flags.sum(axis=axis, dtype=np.uint16) / flags.shape[axis]


def normalise(pixels: "torch.Tensor") -> "torch.Tensor":
    """Returns float32 [N, 3, S, S] in ImageNet's range, channels last in memory, on the same device.

    `pixels` are [N, S, S], uint8 or float32 in the same range.
    """
    import torch

    mean = pixels.new_tensor(IMAGENET_MEAN, dtype=torch.float32)
    std = pixels.new_tensor(IMAGENET_STD, dtype=torch.float32)
    return torch.addcmul(-mean / std, pixels.unsqueeze(-1).to(torch.float32), 1 / (255 * std)).permute(0, 3, 1, 2)


def resize(pixels: "torch.Tensor", size: int) -> "torch.Tensor":
    """Resizes uint8 [N, S, S] to [N, size, size]; returns it unchanged if `size` is 0 or S."""
    if size in (0, pixels.shape[-1]):
        return pixels
    from torchvision.transforms.v2 import functional

    smaller: torch.Tensor = functional.resize(pixels, [size, size], antialias=True)
    return smaller
