"""pyproject.toml declares what the program imports, and the program imports what pyproject.toml declares."""

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STUBS = {"_typeshed"}
"""Modules that exist for type checkers only."""

NOT_IMPORTED = {
    "jupyter": "opens the notebook",
    "scikit-learn": "fixed by the owner; reference metrics of the tests",
    "websockets": "streamlit's, kept below the versions that drop connections with a non-ASCII header",
}
"""Runtime dependencies that no module imports, each with the reason to have it."""


def declared(*lists: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for lines in lists for line in lines}


def sources() -> Iterator[str]:
    """Yields the code of every module, of the app and of every cell of the notebook."""
    for path in [*(ROOT / "medisync").rglob("*.py"), ROOT / "app.py"]:
        yield path.read_text(encoding="utf-8")
    for cell in json.loads((ROOT / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def third_party_imports(source: str) -> set[str]:
    """Returns the top-level names of the third-party modules that a piece of code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - STUBS - {"medisync"}


def imported() -> dict[str, set[str]]:
    """Returns the distributions that may provide each imported module."""
    providers = packages_distributions()
    names = set().union(*map(third_party_imports, sources()))
    return {name: set(map(canonicalize_name, providers.get(name, []))) for name in names}


def test_third_party_imports_are_told_from_others() -> None:
    code = "import os, numpy.linalg\nfrom google.protobuf import message\nfrom medisync import config\n"
    assert third_party_imports(code) == {"numpy", "google"}


def test_every_import_is_declared() -> None:
    known = declared(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    assert {name for name, distributions in imported().items() if not distributions & known} == set()


def test_every_runtime_dependency_is_imported_or_has_its_reason_here() -> None:
    used = set().union(*imported().values())
    assert declared(PROJECT["dependencies"]) - used == set(NOT_IMPORTED)
