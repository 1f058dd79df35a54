"""Decides which files are scans and which belong together: by their content, the same for folders, archives and uploads."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medisync.errors import ImageError, printable
from medisync.imaging import foreign
from medisync.imaging.decoding import Scan, file_bytes, open_scan
from medisync.imaging.file_tree import LeftOut, walk, why_not_a_file
from medisync.imaging.formats import (
    HEAD_BYTES,
    claims_to_be_a_scan,
    decompressed,
    is_analyze_header,
    is_dicom,
    is_dicom_image,
    is_dicomdir,
    is_header_name,
    is_nifti,
    is_picture,
    other_halves,
)
from medisync.imaging.limits import MAX_SERIES_BYTES

if TYPE_CHECKING:
    from medisync.imaging.dicom_series import Header

DICOM_HEADER_BYTES = 2**17
"""Bytes in which the header of nearly every DICOM file ends; of the others the whole file is read."""


@dataclass(frozen=True)
class Entry:
    """A file in a folder, in an archive or among the uploads."""

    name: str
    """Its path as a person knows it, with `/` between folders."""
    size: int
    read_head: Callable[[int], bytes]
    """Reads that many bytes from its beginning. Raises ImageError."""
    read: Callable[[], bytes]
    """Reads it whole. Raises ImageError if it cannot be read or is larger than any scan."""
    named: bool = False
    """True if a person pointed at this very file, so that it is answered for whatever it is."""
    key: str = ""
    """Key of the file, unique at its door."""


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan, and what to call it."""

    name: str
    entries: tuple[Entry, ...]
    problem: str = ""
    """The reason why they cannot be read, where it is known before they are opened."""

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)

    def read(self) -> list[bytes]:
        """Reads the files. Raises ImageError with one sentence."""
        if self.problem:
            raise ImageError(self.problem)
        if len(self.entries) > 1 and self.size > MAX_SERIES_BYTES:
            limit = f"the limit of {MAX_SERIES_BYTES >> 20} MB"
            raise ImageError(f"its {len(self.entries)} files have {self.size >> 20} MB together, more than {limit}")
        return [entry.read() for entry in self.entries]

    def open(self) -> Scan:
        """Opens the scan. Raises ImageError with one sentence."""
        return open_scan(self.read())


@dataclass(frozen=True)
class Found:
    """The scans in one place, in the order of their first files, and what there is besides."""

    scans: list[ScanFiles]
    left_out: LeftOut


def single_file(path: Path) -> ScanFiles:
    """Returns a file as a scan of its own, whatever its content."""
    entry = file_on_disk(path, named=True)
    return ScanFiles(entry.name, (entry,))


def file_on_disk(path: Path, named: bool = False) -> Entry:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # reading it will say why
    return Entry(str(path), size, partial(_read_head, path), partial(file_bytes, path), named)


def _read_head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None


def list_folder(root: Path) -> tuple[list[Entry], LeftOut]:
    """Returns the files below a folder, and what else there is: hidden files, broken links, unreadable folders."""
    entries, left_out = [], LeftOut()
    for folder, names in walk(root, left_out):
        for path in (root / folder / name for name in names):
            if reason := why_not_a_file(path):
                left_out.add(reason, path.name)
            else:
                entries.append(file_on_disk(path))
    return entries, left_out


def sort_files(entries: Iterable[Entry], place: str = "the folder") -> Found:
    """Finds the scans among files: a file each, but all files of a DICOM series, and both of an Analyze pair, are one.

    Every other file is counted with its reason, unless its suffix claims a scan or a person named it: then it has a place
    among the scans and is refused there with one sentence. `place` is what holds the files, for the reasons.
    """
    files = list(entries)
    pairs = _pairs(files)
    pixel_files = set(pairs.values())
    groups: dict[str, list[Entry]] = {}
    problems: dict[str, str] = {}
    left_out = LeftOut()
    for index, entry in enumerate(files):
        if index in pixel_files:
            continue
        verdict = _judge(entry, index in pairs, place)
        if verdict.left_out:
            left_out.add(verdict.left_out, entry.name)
            continue
        key = verdict.series or f"file {index}"
        groups.setdefault(key, []).append(entry)
        if index in pairs:
            groups[key].append(files[pairs[index]])
        problems[key] = verdict.problem
    names = _names(groups)
    scans = [ScanFiles(names[key], tuple(group), problems[key]) for key, group in groups.items()]
    return Found(scans, left_out)


@dataclass(frozen=True)
class _Verdict:
    left_out: str = ""
    """The reason why the file is left out; empty for a scan or a part of one."""
    series: str = ""
    """Key of the series that it belongs to; empty for a scan of its own."""
    problem: str = ""


ALONE = _Verdict()


def _judge(entry: Entry, has_pixels: bool, place: str) -> _Verdict:
    try:
        head = entry.read_head(HEAD_BYTES)
        inside = decompressed(head)
        if is_dicom(head):
            return _judge_dicom(entry, head)
    except ImageError as problem:
        return _refuse(entry, f"unreadable file: {problem}", str(problem))
    if is_analyze_header(inside):
        return ALONE if has_pixels else _Verdict(problem=_missing_half(entry.name, "pixels", "img"))
    if is_picture(head) or is_nifti(inside):
        return ALONE
    if not head:
        return _refuse(entry, "empty file")
    if entry.name.lower().endswith((".img", ".img.gz")):
        return _Verdict(problem=_missing_half(entry.name, "header", "hdr"))
    found = foreign.name_of(head)
    return _refuse(entry, f"{found} inside {place}, not opened" if found == foreign.ARCHIVE else found)


def _refuse(entry: Entry, reason: str, problem: str = "") -> _Verdict:
    """Gives a file that is no scan its place among the scans, where opening it says what is wrong, or leaves it out."""
    if entry.named or claims_to_be_a_scan(entry.name):
        return _Verdict(problem=problem)
    return _Verdict(left_out=reason)


def _missing_half(name: str, half: str, suffix: str) -> str:
    stem = PurePosixPath(name).name.lower().removesuffix(".gz").rpartition(".")[0]
    other = f"{printable(stem)[:40]}.{suffix}"
    return f"one half of an Analyze or NIfTI pair; exactly one {other} with its {half} must be beside it"


def _judge_dicom(entry: Entry, head: bytes) -> _Verdict:
    if is_dicomdir(head):
        return _Verdict(left_out="DICOMDIR, a table of contents")
    try:
        header = _dicom_header(entry)
    except ImageError:
        return ALONE  # opening it says what is wrong
    if header.has_image:
        return _Verdict(series=header.series if header.is_placed else "")
    return ALONE if is_dicom_image(head) else _Verdict(left_out="DICOM file without an image")


def _dicom_header(entry: Entry) -> "Header":
    from medisync.imaging.dicom_series import describe  # here because pydicom imports slowly and most files are images

    start = entry.read_head(DICOM_HEADER_BYTES)
    with suppress(ImageError):
        if (header := describe(start)).has_image:
            return header
    return describe(start if len(start) == entry.size else entry.read())


def _pairs(entries: Sequence[Entry]) -> dict[int, int]:
    """Returns the place of the pixel file by the place of its header, for Analyze and NIfTI pairs.

    Files are paired by their names, without regard to case; where two have the same name none is.
    """
    places: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        places.setdefault(entry.name.lower(), []).append(index)
    pairs = {}
    for index, entry in enumerate(entries):
        pixels = [place for name in other_halves(entry.name) for place in places.get(name, [])]
        if len(pixels) == len(places[entry.name.lower()]) == 1 and _is_header(entry):
            pairs[index] = pixels[0]
    return pairs


def _is_header(entry: Entry) -> bool:
    try:
        return is_analyze_header(decompressed(entry.read_head(HEAD_BYTES)))
    except ImageError:
        return False


def _names(groups: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """Returns a name for each scan; a series has that of its folder, or of its first file if the folder holds more."""
    scans_in = Counter(_folder(entries[0]) for entries in groups.values())
    return {key: _series_name(group, scans_in) if _is_series(group) else group[0].name for key, group in groups.items()}


def _is_series(entries: Sequence[Entry]) -> bool:
    return len(entries) > 1 and not is_header_name(entries[0].name)


def _series_name(entries: Sequence[Entry], scans_in: Mapping[str, int]) -> str:
    """Says nothing of what the files hold: their fields name a patient or an examination."""
    folder, slices = _folder(entries[0]), f"{len(entries)} slices"
    if folder == "." or scans_in[folder] > 1 or any(_folder(entry) != folder for entry in entries):
        return f"{min(entry.name for entry in entries)} (first of {slices})"
    return f"{folder} ({slices})"


def _folder(entry: Entry) -> str:
    return str(PurePosixPath(entry.name).parent)
