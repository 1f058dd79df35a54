"""Decoded, standardised images on disk: one memory-mapped array per list of files, keyed by content."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medisync.data.parallel import map_files
from medisync.errors import DataError, ImageError
from medisync.imaging.decoding import decode, file_bytes
from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import PIPELINE_VERSION, standardise


def open_cache(
    files: Sequence[tuple[Path, str]],
    size: int,
    folder: Path,
    on_image: Callable[[int], None] = lambda count: None,
) -> Pixels:
    """Returns the standardised images of `files`, in order, as a read-only memory-mapped array uint8 [N, size, size].

    `files` are (path, SHA-256 of the bytes). The cache is keyed by content and size, built on all cores if it does not
    exist, and safe to delete; `on_image` is called after each decoded image. Raises DataError if a file is not the one
    that was audited.
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
    """Maps a new file into memory and reserves its space: a disk that fills up later would kill the process."""
    try:
        cache = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):
            with file.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    except OSError as error:
        raise DataError(f"no space for the decoded images in {file.parent.name}/: {error.strerror or error}") from None
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
