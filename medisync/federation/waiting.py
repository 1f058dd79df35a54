"""Updates that wait on disk for the others of their round, so that a server's memory does not grow with its hospitals.

Flower's averaging strategies take one update after the other and keep one sum; what would grow is the updates themselves. The
median, the trimmed mean and Krum look at all updates at once, and read them all back.
"""

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray


class WaitingArray(Array):
    """An array whose values stay where they are, in memory or on disk; Flower's own keeps a serialised copy of them."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__(dtype=str(values.dtype), shape=values.shape, stype="numpy.ndarray", data=b"")
        self._values = values

    def numpy(self) -> NDArray[Any]:
        return self._values


def put_aside(arrays: ArrayRecord) -> ArrayRecord:
    """The same arrays in a temporary file without a name, which ends with them, or with the process.

    As they are where there is no room for a file, or where they cannot be read: whoever screens updates refuses those.
    """
    try:
        return _on_disk(arrays)
    except (OSError, ValueError, TypeError):
        return arrays


def _on_disk(arrays: ArrayRecord) -> ArrayRecord:
    places = {}
    with tempfile.TemporaryFile(prefix="medisync-") as file:
        for key, array in arrays.items():
            values = np.ascontiguousarray(array.numpy())
            places[key] = (file.tell(), values.nbytes, array.dtype, array.shape)
            file.write(values.data)
            file.write(bytes(64 - values.nbytes % 64))  # what follows begins aligned
        file.flush()
        whole = np.memmap(file, np.uint8, "c")
    return in_place(
        {key: whole[at : at + size].view(dtype).reshape(shape) for key, (at, size, dtype, shape) in places.items()}
    )


def in_place(values: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """These very values, not copied."""
    return record({key: WaitingArray(array) for key, array in values.items()})


def record(arrays: Mapping[str, Array]) -> ArrayRecord:
    """These very arrays; Flower's constructor would make plain ones of their bytes."""
    found = ArrayRecord()
    for key, array in arrays.items():
        found[key] = array
    return found
