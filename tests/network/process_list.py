"""The processes of this machine that tests may have left behind."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]

END_SECONDS = 120


def running_with(folder: Path) -> list[str]:
    """Returns the command lines that name `folder`, of processes that do not end within END_SECONDS."""
    found = [process for process in psutil.process_iter() if str(folder) in " ".join(command_line(process))]
    _, left = psutil.wait_procs(found, timeout=END_SECONDS)
    return [" ".join(command_line(process)) for process in left]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has ended, or belongs to somebody else
        return []
