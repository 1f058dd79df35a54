"""The parameters that notebook.ipynb shows, read without executing it."""

import ast
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medisync import project_files

if TYPE_CHECKING:
    from medisync.config import Configuration

PATH = project_files.NOTEBOOK


def configuration(parameters: Mapping[str, Any] | None = None) -> "Configuration":
    """Returns the notebook's configuration with some parameters replaced.

    Raises ConfigError, naming the parameter, for an unknown name or an invalid value.
    """
    from medisync.config import from_dict  # pydantic is slow to load, and `medisync --help` needs none of it

    return from_dict({**literals(), **(parameters or {})})


def literals() -> dict[str, Any]:
    """Returns the names in capitals to which the notebook's cells assign plain values; a later cell wins."""
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
