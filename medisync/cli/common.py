"""Options that several commands share, and the printed result of a run."""

import argparse
import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import notebook

if TYPE_CHECKING:
    from medisync.workspace.artifacts import Workspace


def add(commands: Any, shared: argparse.ArgumentParser, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, parents=[shared], help=summary, description=summary)
    command.set_defaults(command=run)
    return command


def existing_workspace(options: argparse.Namespace) -> "Workspace":
    """Returns the workspace that the options name. Raises ConfigError if there is no such folder."""
    from medisync.workspace import artifacts

    return artifacts.locate_existing(options.workspace)


def add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter of the notebook, such as ROUNDS 3; may be given several times",
    )


def add_demo_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--demo", action="store_true", help="use the demo's parameters instead of the notebook's")


def run_parameters(workspace: "Workspace", options: argparse.Namespace) -> dict[str, Any]:
    """Returns the parameters to start a run with; for a resumed run, those that it started with.

    Raises ConfigError for an unknown name or an invalid value before anything starts.
    """
    parameters = _chosen_parameters(options)
    if options.resume:
        parameters = {**_parameters_of(workspace, options.resume), **parameters}
    notebook.configuration(parameters)
    return parameters


def _chosen_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the demo's parameters if they are asked for, overridden by those of the command line."""
    from medisync.config import DEMO_PARAMETERS  # pydantic is slow to load, and `medisync --help` needs none of it

    return {
        **(DEMO_PARAMETERS if options.demo else {}),
        **{name: parse_value(text) for name, text in options.parameters},
    }


def parse_value(text: str) -> Any:
    """Returns the value of a Python literal, as in `-p ROUNDS 3`, or else the text itself, as in `-p DEVICE cpu`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _parameters_of(workspace: "Workspace", run: str) -> dict[str, Any]:
    """Returns the notebook's parameters with the values that an interrupted run started with."""
    from medisync.workspace import artifacts

    _, start = artifacts.reopen(workspace, run)
    sections = [section for section in start.configuration.values() if isinstance(section, dict)]
    started = {name.upper(): value for section in sections for name, value in section.items()}
    return {**{name: started[name] for name in notebook.literals() if name in started}, "RESUME": run}


def print_result(workspace: "Workspace", run: str) -> None:
    """Prints a completed run's test figures and where its files are."""
    from medisync.reporting.formatting import count, percent, with_interval
    from medisync.reporting.headlines import lowest_in_words
    from medisync.workspace import artifacts

    metrics = artifacts.read(workspace.artifacts / run, artifacts.META).metrics
    test = metrics.test
    print(
        f"\n{run}: test accuracy {with_interval(test, 'accuracy')}, 95 % interval in brackets; "
        f"lowest of a hospital {lowest_in_words(metrics.hospitals)}; "
        f"macro F1 {percent(test.macro_f1)}; {count(test.n, 'test scan')}\n"
        f"artifacts in {shown(workspace.artifacts / run)}, model in {shown(workspace.models)}"
    )


def shown(path: Path) -> str:
    """Returns the path as text, relative to the current folder if it lies inside it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
