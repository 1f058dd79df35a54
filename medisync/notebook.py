"""notebook.ipynb as the one place that holds the parameters: read, never executed, here."""

import ast
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medisync import project_files
from medisync.errors import ConfigError

if TYPE_CHECKING:
    from medisync.config import Configuration

PATH = project_files.NOTEBOOK


def configuration(parameters: Mapping[str, Any] | None = None) -> "Configuration":
    """The configuration that the notebook holds, with some parameters replaced."""
    from medisync.config import from_dict  # pydantic is slow to load, and `medisync --help` needs none of it

    names = literals()
    if unknown := set(parameters or {}) - set(names):
        known = ", ".join(sorted(names.keys() - {"HOSPITAL_CONFIGS", "DATASETS"}))
        raise ConfigError(f"{sorted(unknown)[0]} is not in the notebook's parameters cell ({known})")
    return from_dict({**names, **(parameters or {})})


def literals() -> dict[str, Any]:
    """The capital-letter names that the notebook's cells assign plain values to; nothing is executed."""
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    statements = (statement for source in sources for statement in ast.parse(source).body)
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id.isupper()
    }
