"""The lines of a run's log: text -> a table that can be filtered."""

from collections.abc import Sequence

import pandas as pd

from medisync.reporting.formatting import plain
from medisync.reporting.tables import table

LEVELS = ("INFO", "WARNING", "ERROR")
"""The levels, least severe first."""

LogLine = tuple[str, str, str]
"""(time, level, message)."""


def parse(text: str) -> list[LogLine]:
    """Returns the lines of a log; a line without a level belongs to the line before it."""
    rows: list[LogLine] = []
    for line in text.splitlines():
        day, clock, level, message = (line.split(" ", 3) + [""] * 4)[:4]
        if level in LEVELS:
            rows.append((f"{day} {clock.partition(',')[0]}", level, plain(message, 500)))
        elif rows:
            rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} {plain(line, 500)}")
    return rows


def matching(lines: Sequence[LogLine], least: str, wanted: str) -> pd.DataFrame:
    """Returns the lines of this level or a more severe one that contain `wanted`, ignoring case."""
    found = [
        line
        for line in lines
        if LEVELS.index(line[1]) >= LEVELS.index(least) and wanted.lower() in " ".join(line).lower()
    ]
    return table(("Time", "Level", "Message"), found)
