"""A function over many files on all cores, in order, and no process left behind."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from medisync import parent_watch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_files(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` over `items` on all cores, in order; small inputs stay in this process. If it is killed, no worker stays."""
    items = list(items)
    workers = os.cpu_count() or 1
    if len(items) < 64 or workers == 1:
        yield from map(function, items)
        return
    me = os.getpid()  # said by name: a worker that starts while this process is killed has another parent already
    with ProcessPoolExecutor(workers, initializer=parent_watch.end_with, initargs=(me,)) as pool:
        yield from pool.map(function, items, chunksize=32)
