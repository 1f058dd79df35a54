"""The update store: updates wait on disk for the others of their round, so memory does not grow with the hospitals.

Flower's averaging strategies add one update after the other to one sum, so only the updates themselves would take more
memory. The median, the trimmed mean and Krum look at all updates at once, and read them all back.
"""

import io
import mmap
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

ALIGNMENT = 64
"""Arrays begin at multiples of this many bytes."""


class StoredArray(Array):
    """An array that refers to its values, in memory or on disk; Flower's own holds a serialised copy of them."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__(dtype=str(values.dtype), shape=values.shape, stype="numpy.ndarray", data=b"")
        self._values = values

    def numpy(self) -> NDArray[Any]:
        return self._values


class UpdateStore:
    """A temporary file without a name, which lasts as long as the store and the arrays in it, at most the process.

    The place of an update is reused once nothing refers to it: the system is quicker to write where it wrote before.
    """

    def __init__(self) -> None:
        self._end = 0
        self._free: dict[int, list[int]] = defaultdict(list)
        """Offsets of unused places, by their size in bytes."""

    @cached_property
    def _file(self) -> io.FileIO:
        file = tempfile.TemporaryFile(buffering=0, prefix="medisync-")  # noqa: SIM115  (it ends with the store)
        weakref.finalize(self, file.close)
        return file

    def put_aside(self, arrays: ArrayRecord) -> ArrayRecord:
        """Returns the same arrays in the file.

        They are returned as they are if the disk has no room for them, or if they cannot be read: update validation
        refuses those.
        """
        try:
            return self._on_disk({key: array.numpy() for key, array in arrays.items()})
        except (OSError, ValueError, TypeError):
            return arrays

    def _on_disk(self, values: Mapping[str, NDArray[Any]]) -> ArrayRecord:
        *starts, end = accumulate((_rounded_up(array.nbytes, ALIGNMENT) for array in values.values()), initial=0)
        size = _rounded_up(end, mmap.ALLOCATIONGRANULARITY)
        place = self._claim(size)
        try:
            for start, array in zip(starts, values.values(), strict=True):
                self._write(place + start, array)
            mapped = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY, offset=place)
        except BaseException:
            self._free[size].append(place)
            raise
        weakref.finalize(mapped, self._free[size].append, place)
        whole = np.frombuffer(mapped, np.uint8)
        return in_place(
            {
                key: np.ndarray(array.shape, array.dtype, whole, start)
                for start, (key, array) in zip(starts, values.items(), strict=True)
            }
        )

    def _claim(self, size: int) -> int:
        """Returns the offset of a place of `size` bytes: an unused one, or a new one at the end of the file."""
        if self._free[size]:
            return self._free[size].pop()
        self._file.truncate(self._end + size)  # as long as what will be mapped; the disk gives room when it is written
        self._end += size
        return self._end - size

    def _write(self, at: int, array: NDArray[Any]) -> None:
        """Writes the whole array; the system may accept less in one call."""
        self._file.seek(at)
        left = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        while left:
            left = left[self._file.write(left) :]


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def in_place(values: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Returns a record of these values, which are not copied."""
    return record({key: StoredArray(array) for key, array in values.items()})


def record(arrays: Mapping[str, Array]) -> ArrayRecord:
    """Returns a record of these very arrays; Flower's constructor would make plain ones of their bytes."""
    found = ArrayRecord()
    for key, array in arrays.items():
        found[key] = array
    return found
