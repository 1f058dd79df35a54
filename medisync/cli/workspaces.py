"""Commands that work on a workspace: `serve`, `audit`, `download` and `runs`."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medisync import notebook, project_files
from medisync.cli.common import add, existing_workspace
from medisync.errors import ConfigError

if TYPE_CHECKING:
    from medisync.workspace.artifacts import Workspace

PORT = 8501
"""Where the dashboard is, unless `--port` says otherwise; Streamlit's own default."""


def add_serve(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = add(commands, shared, "serve", serve, "Open the dashboard on a workspace.")
    command.add_argument("--port", type=int, default=PORT, help=f"port on 127.0.0.1 (default: {PORT})")


def serve(options: argparse.Namespace) -> int:
    return become_dashboard(existing_workspace(options), options.port)


def become_dashboard(workspace: "Workspace", port: int = PORT) -> NoReturn:
    """Replaces this process by Streamlit, so that whatever ends the command ends the dashboard.

    Raises ConfigError for a port at which it could not listen.
    """
    _require_free(port)
    # -P: no file in the current folder can shadow a module
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(project_files.APP), "--server.port", str(port)]
    sys.stdout.flush()
    # every session is a thread, and memory in an arena per thread would never be returned to the system
    # a proxy for single sign-on may send cookies of more than websockets' 8 kB, and would get no answer
    defaults = {"MALLOC_ARENA_MAX": "2", "WEBSOCKETS_MAX_LINE_LENGTH": "65536"}
    environment = {**defaults, **os.environ, "MEDISYNC_WORKSPACE": str(workspace.root)}
    os.execve(sys.executable, command, environment)  # noqa: S606


def _require_free(port: int) -> None:
    """Raises ConfigError if the dashboard cannot listen at a port of this machine."""
    import socket

    if not 1 <= port <= 65535:
        raise ConfigError(f"--port: expected a whole number from 1 to 65535, got {port}")
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except PermissionError:
        raise ConfigError(
            f"--port: only the administrator of this machine may use port {port}; choose one from 1024 on, such as {PORT}"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"--port: cannot listen at port {port} ({os.strerror(error.errno or 0)}); stop the program that does, or choose another port"
        ) from None


def add_audit(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = add(commands, shared, "audit", audit, "Audit the hospitals' datasets without training.")
    command.add_argument("--json", metavar="FILE", type=Path, help="write the audit record to FILE")


def audit(options: argparse.Namespace) -> int:
    from medisync.data.audit import audit_hospitals, log_lines, require_images, warnings
    from medisync.workspace.atomic import write_bytes

    workspace, configuration = existing_workspace(options), notebook.configuration()
    hospitals = configuration.hospitals
    record = audit_hospitals(hospitals, workspace.dataset, external=configuration.external)
    print("\n".join([*log_lines(record), *(f"warning: {line}" for line in warnings(record))]))
    if options.json:
        write_bytes(options.json, record.model_dump_json(indent=1).encode())
    require_images(record, hospitals, workspace.dataset)
    return 0


def add_download(commands: Any, shared: argparse.ArgumentParser) -> None:
    add(commands, shared, "download", download, "Download the three public datasets from Kaggle into dataset/.")


def download(options: argparse.Namespace) -> int:
    from medisync.data.download import download_datasets

    download_datasets(existing_workspace(options).dataset)
    return 0


def add_runs(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = add(commands, shared, "runs", runs, "List the runs of a workspace, or compare two of them.")
    command.add_argument("--compare", nargs=2, metavar=("A", "B"), help="show only the differences between two runs")


def runs(options: argparse.Namespace) -> int:
    from medisync.reporting import run_comparison

    workspace = existing_workspace(options)
    if options.compare:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0  # a file or a pipe gets all of it
        first, second = options.compare
        print(run_comparison.difference(workspace, first, second, width))
    else:
        print(run_comparison.listing(workspace))
    return 0
