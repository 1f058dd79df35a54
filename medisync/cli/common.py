"""What several commands share: their parameters, and how they say what came of it."""

import argparse
import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medisync import notebook

if TYPE_CHECKING:
    from medisync.workspace.artifacts import Workspace


DEMO_PARAMETERS: Mapping[str, Any] = {
    "IMAGE_SIZE": 96,
    "IMAGE_SIZE_SCHEDULE": "constant",
    "LOCAL_EPOCHS": 1,
    "MISSING_CLASS_PRIOR": 0.3,
    "LEARNING_RATE": 1e-3,
    "LEARNING_RATE_SCHEDULE": "cosine",
    "BATCH_SIZE": 16,
    "STEPS_PER_EPOCH": 0,
    "WEIGHT_DECAY": 0.0,
    "MIXUP": 0.0,
    "NORMALISATION": "averaged",
    "ADAM_MOMENTS": "fresh",
    "VALIDATE_EVERY": 1,
    "ROUNDS": 20,
    "PATIENCE": 10,
}
"""Enough for the phantom hospitals, in minutes on two cores."""


def add(commands: Any, shared: argparse.ArgumentParser, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, parents=[shared], help=summary, description=summary)
    command.set_defaults(command=run)
    return command


def add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set one name of the notebook's parameters cell",
    )


def add_demo_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--demo", action="store_true", help="the demonstration's parameters instead of the notebook's")


def run_parameters(workspace: "Workspace", options: argparse.Namespace) -> dict[str, Any]:
    """What a run is to begin or, resumed, began with. Raises ConfigError for a wrong one before anything starts."""
    parameters = _chosen_parameters(options)
    if options.resume:
        parameters = {**_parameters_of(workspace, options.resume), **parameters}
    notebook.configuration(parameters)
    return parameters


def _chosen_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Those that differ from the notebook's."""
    return {
        **(DEMO_PARAMETERS if options.demo else {}),
        **{name: parse_value(text) for name, text in options.parameters},
    }


def parse_value(text: str) -> Any:
    """A Python literal, else the text itself: `-p ROUNDS 3`, `-p DEVICE cpu`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _parameters_of(workspace: "Workspace", run: str) -> dict[str, Any]:
    """The notebook's parameters as an interrupted run has them."""
    from medisync.workspace import artifacts

    _, start = artifacts.reopen(workspace, run)
    sections = [section for section in start.configuration.values() if isinstance(section, dict)]
    began = {name.upper(): value for section in sections for name, value in section.items()}
    return {**{name: began[name] for name in notebook.literals() if name in began}, "RESUME": run}


def print_result(workspace: "Workspace", run: str) -> None:
    from medisync.reporting.formatting import count, percent, with_interval
    from medisync.workspace import artifacts

    test = artifacts.read(workspace.artifacts / run, artifacts.META).metrics.test
    print(
        f"\n{run}: test accuracy {with_interval(test, 'accuracy')}, 95 % interval in brackets; "
        f"macro F1 {percent(test.macro_f1)}; {count(test.n, 'test scan')}\n"
        f"artifacts in {shown(workspace.artifacts / run)}, model in {shown(workspace.models)}"
    )


def shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
