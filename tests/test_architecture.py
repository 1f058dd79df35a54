"""The house: one ordered list of layers, imports that go one way, and no circle inside a package."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "medisync"

LAYERS = (
    {"errors", "schemas", "version", "parent_watch", "project_files"},
    {"config"},
    {"notebook"},
    {"workspace"},
    {"imaging"},
    {"data", "phantom"},
    {"ingest"},
    {"model"},
    {"evaluation"},
    {"training"},
    {"federation"},
    {"inference"},
    {"reporting"},
    {"pipeline"},
    {"network"},
    {"dashboard"},
    {"cli"},
    {"__main__"},
)
"""Lowest first. A room imports from layers before its own; rooms of one layer do not know each other, except the lowest."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
ROOMS = {module.relative_to(PACKAGE).with_suffix("").parts[0] for module in MODULES}
RUNS_STREAMLIT = {"dashboard"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever and however it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def own_modules(path: Path) -> set[str]:
    """The modules of medisync that a file imports, by their dotted names."""
    known = {dotted(module) for module in MODULES}
    return imports(path) & known


def layer_of(room: str) -> int:
    (place,) = (place for place, rooms in enumerate(LAYERS) if room in rooms)
    return place


def test_every_room_has_one_place_in_the_list() -> None:
    assert sorted(room for rooms in LAYERS for room in rooms) == sorted(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_come_from_lower_layers(path: Path) -> None:
    own = room_of(path)
    others = {name.split(".")[1] for name in own_modules(path)} - {own}
    lower = {room for room in others if layer_of(room) < layer_of(own)}
    assert others - lower <= (LAYERS[0] if layer_of(own) == 0 else set())


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {dotted(path): own_modules(path) - {dotted(path)} for path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_a_package_does_not_pass_on_what_others_define() -> None:
    """A name is imported from the module that defines it: a package's `__init__` holds its description and nothing else."""
    inits = [path for path in MODULES if path.name == "__init__.py"]
    assert inits
    for path in inits:
        if path.parent.name != "cli":  # its `main` is the program's entry point
            assert [type(node) for node in ast.parse(path.read_text(encoding="utf-8")).body] == [ast.Expr], path


def test_no_module_is_imported_under_another_name() -> None:
    """Two things with one name is a fault in naming, and an alias hides it."""
    known = {dotted(path) for path in MODULES}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                aliased = [a.name for a in node.names if a.asname and f"{node.module}.{a.name}" in known]
                passed_on = [a.name for a in node.names if a.asname == a.name and str(node.module) in known]
                assert not aliased + passed_on, path


def test_the_app_imports_the_dashboard_only() -> None:
    rooms = {name.split(".")[1] for name in own_modules(ROOT / "app.py")}
    assert rooms <= {"dashboard", "reporting", "errors"}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_streamlit_stays_in_the_dashboard(path: Path) -> None:
    uses = any(name.split(".")[0] == "streamlit" for name in imports(path))
    assert not uses or room_of(path) in RUNS_STREAMLIT


@pytest.mark.parametrize(
    "modules",
    [
        ["medisync.cli"],
        ["medisync.workspace.artifacts"],
        [dotted(path) for path in MODULES if room_of(path) == "reporting"],
        ["medisync.dashboard.data", "medisync.dashboard.components"],
    ],
    ids=["cli", "workspace", "reporting", "dashboard"],
)
def test_importing_it_imports_no_torch(modules: list[str]) -> None:
    command = f"import {', '.join(modules)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", command], cwd=ROOT, check=False).returncode == 0
