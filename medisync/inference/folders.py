"""Predictions for many scans: found in folders, archives and files, and predicted in batches."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from medisync.errors import DataError, ImageError
from medisync.imaging.archives import Limits, is_zip, list_archive
from medisync.imaging.decoding import Decoded
from medisync.imaging.file_tree import LeftOut
from medisync.imaging.formats import HEAD_BYTES, other_halves
from medisync.imaging.intensities import Pixels
from medisync.imaging.preprocessing import standardise
from medisync.imaging.scan_files import Entry, Found, ScanFiles, file_on_disk, list_folder, sort_files
from medisync.inference.predictor import Classifier, predict_batch, predict_slices, with_file_checks
from medisync.model.device import memory_kept
from medisync.schemas import Prediction

BATCH = 64

ARCHIVE_LIMITS = Limits(files=100_000, unpacked=16 * 2**30)
"""Of an archive on disk one scan at a time is unpacked."""

EVERY: Literal["every"] = "every"
"""In place of a slice's number: every slice of a volume."""


@dataclass(frozen=True)
class ScanPrediction:
    """The prediction for a scan, or for one slice of it, or the reason why there is none."""

    scan: ScanFiles
    prediction: Prediction | None
    problem: str = ""
    """Empty where there is a prediction."""
    slice_number: int | None = None
    """From 1; None where the scan could not be opened, or chooses its slice itself."""
    slices: int | None = None


def find_scans(paths: Sequence[Path]) -> Found:
    """Finds the scans among files named one by one, which may belong together, below folders, and in ZIP archives.

    A file that was named has a place among the scans, whatever it is. Raises DataError for a path that does not exist.
    """
    named: dict[Path, Entry] = {}
    elsewhere: list[Found] = []
    for path in paths:
        if path.is_dir():
            elsewhere.append(_in_folder(path))
        elif not path.is_file():
            raise DataError(f"{path}: no such file or folder")
        elif _is_archive(path):
            elsewhere.append(_in_archive(path))
        else:
            named |= {
                file: file_on_disk(file, named=True) for file in (path, *_other_halves(path)) if file not in named
            }
    found = sort_files(named.values())
    for each in elsewhere:
        found.scans.extend(each.scans)
        found.left_out.update(each.left_out)
    return found


def _other_halves(path: Path) -> list[Path]:
    """Returns what belongs to a header or to the pixels of an Analyze pair of which only one was named."""
    wanted = other_halves(path.name)
    return [file for file in path.parent.iterdir() if file.name.lower() in wanted] if wanted else []


def _in_folder(path: Path) -> Found:
    entries, left_out = list_folder(path)
    found = sort_files(entries)
    found.left_out.update(left_out)
    return found


def _is_archive(path: Path) -> bool:
    try:
        return is_zip(file_on_disk(path).read_head(HEAD_BYTES))
    except ImageError:
        return False


def _in_archive(path: Path) -> Found:
    try:
        entries, left_out = list_archive(path, ARCHIVE_LIMITS)
    except ImageError as problem:
        return Found([ScanFiles(str(path), (), str(problem))], LeftOut())
    found = sort_files(entries, "the archive")
    found.left_out.update(left_out)
    return Found([replace(scan, name=f"{path}: {scan.name}") for scan in found.scans], found.left_out)


def predict_scans(
    classifier: Classifier, scans: Iterable[ScanFiles], wanted: int | Literal["every"] | None = None
) -> Iterator[ScanPrediction]:
    """Yields the predictions for scans, in order; one with a problem for a scan, or a slice, that cannot be read.

    `wanted` is the number of the slice, from 1, or EVERY; without it a volume chooses one itself.
    """
    if wanted == EVERY:
        for scan in scans:
            yield from _predict_every_slice(classifier, scan)
    else:
        yield from _predict_one_slice_each(classifier, scans, wanted)


def _predict_every_slice(classifier: Classifier, scan: ScanFiles) -> Iterator[ScanPrediction]:
    try:
        opened = scan.open()
    except ImageError as problem:
        yield ScanPrediction(scan, None, str(problem))
        return
    for number, found in enumerate(predict_slices(classifier, opened), start=1):
        place = ScanPrediction(scan, None, slice_number=number, slices=opened.count)
        yield replace(place, problem=found) if isinstance(found, str) else replace(place, prediction=found)


def _predict_one_slice_each(
    classifier: Classifier, scans: Iterable[ScanFiles], wanted: int | None
) -> Iterator[ScanPrediction]:
    """Decodes a batch on all cores, then predicts it on all cores: both at the same time would wait for each other."""
    remaining = iter(scans)
    with ThreadPoolExecutor(os.cpu_count()) as pool, memory_kept():
        while read := _read_all(pool, list(islice(remaining, BATCH)), wanted, classifier.meta.image_size):
            images = [each.pixels for each in read if isinstance(each, _Image)]
            predictions = iter(predict_batch(classifier, np.stack(images)) if images else [])
            for each in read:
                if isinstance(each, _Image):
                    yield replace(each.place, prediction=with_file_checks(next(predictions), each.decoded))
                else:
                    yield each


@dataclass(frozen=True)
class _Image:
    place: ScanPrediction
    """What is predicted, as yet without a prediction."""
    decoded: Decoded
    pixels: Pixels
    """The network's input, uint8 [S, S]."""


def _read_all(
    pool: Executor, scans: Sequence[ScanFiles], wanted: int | None, size: int
) -> list[_Image | ScanPrediction]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as decoding does: threads share the setting, and one would end the other's
        return list(pool.map(partial(_read, wanted=wanted, size=size), scans))


def _read(scan: ScanFiles, wanted: int | None, size: int) -> _Image | ScanPrediction:
    place = ScanPrediction(scan, None, slice_number=wanted)
    try:
        decoded = scan.open().decode(wanted)
    except ImageError as problem:
        return replace(place, problem=str(problem))
    return _Image(place, decoded, standardise(decoded.pixels, size))
