"""Pixels -> pictures: heat map over a scan, thumbnails, images as data addresses."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEAT_COLOURS = ((0, 0, 0), (120, 20, 110), (235, 90, 40), (255, 235, 130))
"""Colours from cold to hot, each brighter than the one before, so that heat is visible as brightness without colour vision."""

THUMBNAIL = 48


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating], opacity: float) -> NDArray[np.uint8]:
    """Returns a grey image uint8 [S, S] under a heat map [S, S] in [0, 1], as RGB uint8 [S, S, 3]; cold regions stay grey."""
    steps = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.stack([np.interp(heat, steps, channel) for channel in np.transpose(HEAT_COLOURS)], axis=2)
    cover = (opacity * np.clip(2 * heat, 0, 1))[..., np.newaxis]
    return np.rint(pixels[..., np.newaxis] * (1 - cover) + colours * cover).astype(np.uint8)


def data_address(pixels: NDArray[np.uint8]) -> str:
    """Returns an image uint8 [H, W] or [H, W, 3] as a PNG in a data address."""
    return _address(Image.fromarray(pixels))


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Returns a small version of a grey image uint8 [H, W] as a data address."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return _address(picture)


def _address(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
