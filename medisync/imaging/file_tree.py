"""Walks through folders, and counts by reason what is left out on the way."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from medisync.errors import printable

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
SYSTEM_FOLDERS = frozenset({"__macosx"})

HIDDEN = "hidden or system file"

NAMED = 3
"""Names that are quoted for each reason."""


class LeftOut:
    """Files that were left out, by reason: a noun such as "text file", with their names."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        self._names.setdefault(reason, []).append(name)

    def update(self, other: "LeftOut") -> None:
        for reason, names in other._names.items():
            self._names.setdefault(reason, []).extend(names)

    @property
    def counts(self) -> Mapping[str, int]:
        return {reason: len(names) for reason, names in self._names.items()}

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """The names by reason."""
        return self._names

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        """The counts, with some names: `2 text files (a.txt, b.txt), 1 DICOMDIR (DICOMDIR)`."""
        return ", ".join(self.lines())

    def lines(self) -> list[str]:
        """The counts, one line a reason."""
        return [_described(reason, names) for reason, names in self._names.items()]


def _described(reason: str, names: list[str]) -> str:
    shown = [printable(PurePosixPath(name).name)[:40] for name in names[:NAMED]]
    more = ["..."] if len(names) > NAMED else []
    return f"{counted(len(names), reason)} ({', '.join([*shown, *more])})"


def counted(number: int, noun: str) -> str:
    """Returns the number with the noun, whose first part is set in the plural: `2 links to a folder`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} " + re.sub(r"^.*?(?=,|:| that | without | inside | to | of | in |$)", r"\g<0>s", noun, count=1)


def is_system(name: str) -> bool:
    """Recognises what other programs leave in folders: hidden files, thumbnails, resource forks."""
    hidden = name.startswith(".") and name not in (".", "..")
    return hidden or name.lower() in SYSTEM_FILES | SYSTEM_FOLDERS


def walk(root: Path, left_out: LeftOut) -> Iterator[tuple[PurePosixPath, list[str]]]:
    """Yields the folders below `root`, relative to it, with the names of their files; follows links, but no loops."""
    seen = {root.resolve()}
    waiting = [PurePosixPath()]
    while waiting:
        folder = waiting.pop()
        try:
            names = sorted(entry.name for entry in os.scandir(root / folder))
        except OSError as error:
            left_out.add(f"unreadable folder: {error.strerror}", str(folder))
            continue
        for name in filter(is_system, names):
            left_out.add(HIDDEN, str(folder / name))
        usable = [name for name in names if not is_system(name)]
        inner = [name for name in usable if (root / folder / name).is_dir()]
        yield folder, [name for name in usable if name not in set(inner)]
        for name in reversed(inner):
            target = (root / folder / name).resolve()
            if target in seen:
                left_out.add("link to a folder that was already visited", str(folder / name))
            else:
                seen.add(target)
                waiting.append(folder / name)


def why_not_a_file(path: Path) -> str:
    """Returns the reason why there is nothing to read at `path`, which is no folder; empty for a file."""
    if path.is_file():
        return ""
    return "broken link" if path.is_symlink() and not path.exists() else "neither a file nor a folder"
