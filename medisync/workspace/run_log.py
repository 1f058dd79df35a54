"""The log of a run: one file, one line for each event."""

import logging
from pathlib import Path

from medisync.errors import printable

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _OneLine(logging.Formatter):
    """Formats every record as one line, so that nothing a hospital answers can look like a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def write_to(file: Path) -> None:
    """Sends the program's log to `file`, and no longer to the file of an earlier run in this process."""
    log = logging.getLogger("medisync")
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(_OneLine(LOG_FORMAT))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
