"""The device to compute on, and the C library's handling of memory during computation."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from medisync.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of mallopt, from malloc.h."""


@dataclass(frozen=True)
class Device:
    """The hardware to compute on."""

    kind: Literal["cpu", "cuda"]
    bfloat16: bool
    """True where the hardware multiplies bfloat16 natively."""


def select_device(wanted: str) -> Device:
    """The device named by `wanted`: "auto", "cpu" or "cuda"; "auto" prefers CUDA.

    Raises ConfigError if "cuda" is asked for on a machine without a CUDA GPU.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("DEVICE: 'cuda' was asked for, but this machine has no CUDA GPU; use 'auto' or 'cpu'")
    if wanted != "cpu" and torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return Device("cpu", bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")))


def describe_device(device: Device) -> str:
    """The device in words, such as "CPU, 2 threads, bfloat16", or the GPU's name and the number format."""
    name = torch.cuda.get_device_name() if device.kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, {'bfloat16' if device.bfloat16 else 'float32'}"


@contextmanager
def memory_kept() -> Iterator[None]:
    """Makes the C library reuse the memory of freed tensors inside the block, and return it to the system at the end.

    Otherwise every step and every batch takes its activations' memory from the system page by page and returns it,
    which costs a tenth of a training step and a quarter of a forward pass on 64 images. Has no effect where the C
    library is not glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    try:
        library.mallopt(M_TRIM_THRESHOLD, 1 << 30)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        yield
    finally:
        library.mallopt(M_TRIM_THRESHOLD, 64 << 20)  # the largest values that glibc would choose by itself
        library.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        library.malloc_trim(0)
