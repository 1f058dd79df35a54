"""The audit log of a hospital: JSON lines that are only ever appended, each with the SHA-256 of the line before.

Whoever can write to the folder can still write a whole new log, or cut off its end. Therefore the number and SHA-256 of the
newest line, its seal, goes to the server with every answer, and `verify` holds the log against the seals kept there.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from medisync.errors import ArtifactError
from medisync.workspace import atomic
from medisync.workspace.folder_names import folder_names

START = "0" * 64
"""What the first line has in place of the SHA-256 of the line before."""

MOST_BYTES = 4 << 20
"""Size at which a file is full; the log goes on in the next one."""

MOST_FILES = 8
"""Files that are kept. The oldest is removed when another one begins, which the first line of that one records."""

LONGEST_LINE = 64 << 10
"""More bytes than a line has."""


@dataclass(frozen=True)
class Seal:
    """The number of a line, from 1, and its SHA-256."""

    line: int
    sha256: str


NOTHING = Seal(0, START)


def utc_now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """The log in a folder, to which several processes may append."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime] = utc_now,
        *,
        most_bytes: int = MOST_BYTES,
        most_files: int = MOST_FILES,
    ) -> None:
        self._folder, self._clock = folder, clock
        self._most_bytes, self._most_files = most_bytes, most_files

    def append(self, entry: Mapping[str, Any]) -> Seal:
        """Appends a line, which is on disk when this returns, and returns its seal.

        What a crash left of a line is removed, and a line says so. Raises ArtifactError if the log cannot be written, or
        if its last line is not one of this log.
        """
        with atomic.explained(f"write {self._folder.name}/"), _locked(self._folder):
            file = (files(self._folder) or [self._folder / _file_name(1)])[-1]
            with file.open("a+b") as stream:
                before = self._recover(stream)
                if stream.seek(0, os.SEEK_END) < self._most_bytes:
                    return self._write(stream, before, entry)
            with (self._folder / _file_name(_number(file) + 1)).open("xb") as stream:
                return self._write(stream, self._drop_oldest(stream, before), entry)

    def _write(self, stream: IO[bytes], before: Seal, entry: Mapping[str, Any]) -> Seal:
        moment = self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
        line = _encoded({"line": before.line + 1, "previous": before.sha256, "time": moment, **entry})
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
        return Seal(before.line + 1, _digest(line))

    def _recover(self, stream: IO[bytes]) -> Seal:
        """Returns the seal of the file's last line, after a line about what was left of an unfinished one, if any.

        A file without a line continues the one before.
        """
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2 * LONGEST_LINE))
        tail = stream.read()
        whole, end, partial = tail.rpartition(b"\n")
        if partial:
            stream.truncate(size - len(partial))
        seal = _seal_of(whole.rpartition(b"\n")[2]) if end else self._seal_before(Path(stream.name))
        if not partial:
            return seal
        return self._write(stream, seal, {"event": "recovered", "bytes": len(partial), "sha256": _digest(partial)})

    def _seal_before(self, file: Path) -> Seal:
        earlier = [each for each in files(self._folder) if each < file]
        return _seal_of(earlier[-1].read_bytes().rstrip(b"\n").rpartition(b"\n")[2]) if earlier else NOTHING

    def _drop_oldest(self, stream: IO[bytes], before: Seal) -> Seal:
        """Removes files beyond the number that is kept, after a line that says where the log begins from then on."""
        old = files(self._folder)[: -self._most_files]
        if not old:
            return before
        last = self._seal_before(old[-1].with_name(_file_name(_number(old[-1]) + 1)))
        seal = self._write(stream, before, {"event": "dropped", "to-line": last.line, "to-sha256": last.sha256})
        for file in old:
            file.unlink()
        return seal


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        yield


def files(folder: Path) -> list[Path]:
    """Returns the log's files, oldest first."""
    return sorted(folder.glob("audit-*.jsonl"))


def verify(folder: Path, seals: Iterable[Seal] = ()) -> Seal:
    """Returns the seal of the log's last line if no line was edited, removed, added or moved.

    Raises ArtifactError that names the first line at fault: the file, the line in the file, and the line in the log.
    """
    unused = not (folder / "lock").exists()  # a copy, or a log that nobody has written to
    with atomic.explained(f"read {folder.name}/"), nullcontext() if unused else _locked(folder):
        return _verify(folder, seals)


def _verify(folder: Path, seals: Iterable[Seal]) -> Seal:
    expected = {seal.line: seal.sha256 for seal in seals}
    begin, seal, dropped = None, NOTHING, set[Seal]()
    for file in files(folder):
        for place, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
            where = f"{file.name}, line {place}"
            entry = _read_line(line, where)
            begin = begin or Seal(entry["line"] - 1, entry["previous"])
            seal = _follow(entry, line, begin if seal == NOTHING else seal, where)
            if expected.get(seal.line, seal.sha256) != seal.sha256:
                raise ArtifactError(f"{where}: is not the line {seal.line} whose SHA-256 the server was given")
            if entry.get("event") == "dropped":
                dropped.add(Seal(entry.get("to-line", 0), entry.get("to-sha256", "")))
    if begin and begin not in (NOTHING, *dropped):
        raise ArtifactError(
            f"{files(folder)[0].name}, line 1: the log begins at line {begin.line + 1}, and no line says why"
        )
    if expected and (last := max(expected)) > seal.line:
        raise ArtifactError(f"the log ends at line {seal.line}, but the server was given the SHA-256 of line {last}")
    return seal


def keep_seal(folder: Path, hospital: str, run: str, seal: Seal) -> None:
    """Appends a seal to the hospital's file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"run": run, "line": seal.line, "sha256": seal.sha256}
    with (folder / f"{folder_names([hospital])[hospital]}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read_seals(file: Path) -> list[Seal]:
    """Returns the seals that the server has kept of a hospital. Raises ArtifactError for a file that is none of these."""
    try:
        entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [Seal(int(entry["line"]), str(entry["sha256"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file.name}: is not a file of seals ({error})") from None


def _follow(entry: Mapping[str, Any], line: bytes, before: Seal, where: str) -> Seal:
    """Returns the seal of a line. Raises ArtifactError if it does not follow the line before."""
    if entry["line"] != before.line + 1:
        raise ArtifactError(f"{where}: is line {entry['line']} of the log where line {before.line + 1} belongs")
    if entry["previous"] != before.sha256:
        raise ArtifactError(f"{where}: line {before.line} of the log is not the one that it followed")
    return Seal(entry["line"], _digest(line.rstrip(b"\n")))


def _read_line(line: bytes, where: str) -> dict[str, Any]:
    """Returns a line's content. Raises ArtifactError unless it is byte for byte what `append` would write of it."""
    try:
        entry: dict[str, Any] = json.loads(line)
        intact = _encoded(entry) + b"\n" == line and type(entry["line"]) is int and len(entry["previous"]) == len(START)
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise ArtifactError(f"{where}: is not a whole line of an audit log")
    return entry


def _seal_of(line: bytes) -> Seal:
    try:
        return Seal(int(json.loads(line)["line"]), _digest(line))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactError(
            "the last line of the audit log is damaged; see `medisync federation audit-log verify`"
        ) from None


def _encoded(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _file_name(number: int) -> str:
    return f"audit-{number:06d}.jsonl"


def _number(file: Path) -> int:
    return int(re.findall(r"\d+", file.name)[0])
