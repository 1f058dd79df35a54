"""Commands that train: `demo` and `train`."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import notebook, project_files
from medisync.cli.common import (
    add,
    add_demo_flag,
    add_parameters,
    existing_workspace,
    print_result,
    run_parameters,
    shown,
)
from medisync.cli.workspaces import become_dashboard
from medisync.errors import MediSyncError

KERNEL = {"AsyncKernelManager": {"transport_encryption": "required"}}
"""Messages between this process and the kernel are encrypted: without that, the kernel warns of eavesdroppers."""

if TYPE_CHECKING:
    from medisync.workspace.artifacts import Workspace


def add_demo(commands: Any, shared: argparse.ArgumentParser) -> None:
    summary = "Make phantom hospitals in demo/ (or --workspace DIR), train on them and open the dashboard."
    command = add(commands, shared, "demo", demo, summary)
    command.add_argument("--no-train", action="store_true", help="only make the phantom hospitals")
    command.add_argument("--no-serve", action="store_true", help="do not open the dashboard")
    command.set_defaults(demo=True, resume=None)
    add_parameters(command)


def demo(options: argparse.Namespace) -> int:
    from medisync.phantom.hospitals import write_hospitals
    from medisync.schemas import PHANTOM_MARKER
    from medisync.workspace import artifacts

    workspace = artifacts.locate(options.workspace or project_files.demo_workspace())
    if not (workspace.dataset / PHANTOM_MARKER).exists():
        print(f"making phantom hospitals in {shown(workspace.dataset)} ...", flush=True)
        write_hospitals(workspace.dataset, seed=0)
    if options.no_train:
        return 0
    _execute_notebook(workspace, run_parameters(workspace, options))
    return 0 if options.no_serve else become_dashboard(workspace)


def add_train(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = add(
        commands, shared, "train", train, "Execute notebook.ipynb: audit, split, train, evaluate and publish."
    )
    add_parameters(command)
    add_demo_flag(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--resume", metavar="RUN", help="resume an interrupted run with the parameters that it started with"
    )
    how.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="SEED",
        help="train one run per seed, then print the mean and the spread over them",
    )


def train(options: argparse.Namespace) -> int:
    from medisync.reporting import run_comparison

    workspace = existing_workspace(options)
    parameters = run_parameters(workspace, options)
    if options.seeds is None:
        _execute_notebook(workspace, parameters)
        return 0
    for seed in options.seeds:  # an invalid seed is refused before the first run starts
        notebook.configuration({**parameters, "SEED": seed})
    runs = [_execute_notebook(workspace, {**parameters, "SEED": seed}) for seed in options.seeds]
    print(f"\n{run_comparison.spread(workspace, runs)}")
    return 0


def _execute_notebook(workspace: "Workspace", parameters: Mapping[str, Any]) -> str:
    """Executes the notebook in a kernel of its own, stores it with the run and returns the run's name."""
    import tempfile

    from medisync.workspace import artifacts
    from medisync.workspace.atomic import write_bytes

    artifacts.require_dataset(workspace)
    os.environ |= {"MEDISYNC_WORKSPACE": str(workspace.root), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / notebook.PATH.name
        _execute_cells(executed, parameters)
        name: str = parameters.get("RESUME") or artifacts.list_runs(workspace)[0].name
        write_bytes(workspace.artifacts / name / artifacts.NOTEBOOK, _stored(executed))
    print_result(workspace, name)
    return name


def _execute_cells(executed: Path, parameters: Mapping[str, Any]) -> None:
    """Writes the notebook with its outputs to `executed`. Raises MediSyncError with the error of the cell that failed."""
    import logging

    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # papermill would warn of parameters outside the tagged cell; `run_parameters` has checked them all
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            notebook.PATH,
            executed,
            dict(parameters),
            kernel_name="python3",
            cwd=project_files.ROOT,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            config=Config(KERNEL),
        )
    except PapermillExecutionError as error:
        raise MediSyncError(f"{error.ename}: {error.evalue}") from error


def _stored(executed: Path) -> bytes:
    """Returns an executed notebook with only the final state of its progress bars, and without papermill's notes on the
    machine that it ran on.
    """
    import nbformat
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    content, _ = CoalesceStreamsPreprocessor(enabled=True).preprocess(nbformat.read(executed, 4), {})
    content.metadata.pop("papermill", None)
    written: str = nbformat.writes(content)
    return written.encode()
