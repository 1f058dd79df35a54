"""Who may import whom. One direction, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "medisync"

BASE = {"errors", "records"}
STAGE = BASE | {"config"}
FEDERATION = STAGE | {
    *("adam", "hospital_statistics", "images", "model", "training", "evaluation", "novelty", "calibration"),
    *("federation", "version"),
}
ALLOWED = {
    "errors": set(),
    "version": set(),
    "lifeline": set(),
    "records": set(),
    "config": BASE,
    "atomic": {"errors"},
    "artifacts": STAGE | {"atomic"},
    "publishing": {"artifacts", "atomic", "errors"},
    "evaluation": STAGE,
    "novelty": BASE,
    "calibration": STAGE | {"evaluation"},
    "volumes": BASE,
    "decoding": BASE | {"volumes"},
    "images": STAGE | {"decoding", "lifeline"},
    "discovery": STAGE | {"images"},
    "duplicates": STAGE | {"images"},
    "audit_cache": STAGE | {"atomic", "discovery", "version"},
    "audit": STAGE | {"images", "discovery", "duplicates", "audit_cache"},
    "splits": STAGE,
    "phantom_anatomy": STAGE,
    "phantom": STAGE | {"phantom_anatomy"},
    "model": STAGE,
    "hospital_statistics": BASE | {"model"},
    "adam": {"model"},
    "training": STAGE | {"adam", "images", "model"},
    "federation": FEDERATION,
    "inference": STAGE
    | {"artifacts", "hospital_statistics", "images", "model", "evaluation", "novelty", "calibration"},
    "export": STAGE | {"images", "model", "inference"},
    "explanation": STAGE | {"images", "model", "inference"},
    "download": BASE,
    "comparison": STAGE | {"artifacts"},
    "tables": FEDERATION,
    "baselines": FEDERATION,
    "model_card": STAGE,
    "recording": FEDERATION | {"artifacts", "audit", "baselines", "model_card", "publishing"},
    "notebook": STAGE,
    "network": FEDERATION | {"lifeline", "atomic", "artifacts", "audit", "splits", "notebook", "recording", "network"},
    "cli": FEDERATION
    | {"notebook", "network"}
    | {"artifacts", "audit", "comparison", "download", "export", "inference", "phantom"},
    "__main__": {"cli"},
    "dashboard.words": BASE,
    "dashboard.data": BASE | {"artifacts", "images"},
    "dashboard.pictures": set(),
    "dashboard.charts": BASE | {"dashboard.words"},
    "dashboard.holdings": BASE | {"dashboard.words", "dashboard.charts"},
    "dashboard.performance": BASE | {"dashboard.words", "dashboard.charts"},
    "dashboard.uploads": BASE | {"images"},
    "dashboard.report": BASE | {"dashboard.words", "dashboard.charts", "dashboard.pictures"},
    "dashboard.curves": BASE | {"dashboard.words", "dashboard.charts"},
    "dashboard.hospital_map": BASE | {"dashboard.words", "dashboard.charts"},
    "dashboard.tables": BASE | {"dashboard.words"},
    "dashboard.findings": BASE | {"dashboard.words", "dashboard.tables"},
    "dashboard.rounds": BASE | {"dashboard.words", "dashboard.tables"},
    "dashboard.baselines": BASE | {f"dashboard.{name}" for name in ("words", "charts", "tables")},
    "dashboard.comparison": BASE | {"comparison", "dashboard.words", "dashboard.tables"},
    "dashboard.pages": BASE
    | {
        f"dashboard.{name}"
        for name in (
            *("words", "data", "charts", "curves", "holdings", "performance", "hospital_map"),
            *("tables", "findings", "rounds", "baselines", "comparison", "pages"),
        )
    },
}
FOR_UPLOADS = {
    "models.py": {"inference", "images", "explanation", "dashboard.uploads"},
    "prediction.py": {"artifacts", "dashboard.uploads", "dashboard.report", "dashboard.pictures"},
}
"""Pages that may do more than the others."""
WITH_STREAMLIT = {"dashboard.data", "dashboard.pages"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    """`training`, `federation` and `network` for all of their folders, `dashboard.pages`, `dashboard.data`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ("federation", "network"):
        return parts[0]
    return ".".join(parts[:2]) if parts[0] == "dashboard" else parts[0]


def imports(path: Path) -> set[str]:
    """Every module that the file imports, wherever in the file, by its dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def own_imports(path: Path) -> set[str]:
    """The modules of medisync that the file imports, as they are called in ALLOWED."""
    known = {name_of(module) for module in MODULES}
    inner = {name.removeprefix("medisync.") for name in imports(path) if name.startswith("medisync.")}
    candidates = {".".join(name.split(".")[:count]) for name in inner for count in (1, 2)}
    return candidates & known


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    allowed = ALLOWED[name_of(path)]
    allowed = allowed | FOR_UPLOADS.get(path.name, set())
    assert own_imports(path) - {name_of(path)} <= allowed


def test_every_rule_is_about_a_module_that_exists() -> None:
    assert {name_of(path) for path in MODULES} == ALLOWED.keys()


def test_the_app_imports_the_dashboard_only() -> None:
    assert all(name.startswith("dashboard") or name in BASE for name in own_imports(ROOT / "app.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_streamlit_stays_in_pages_and_data(path: Path) -> None:
    uses = any(name.split(".")[0] == "streamlit" for name in imports(path))
    assert not uses or name_of(path) in WITH_STREAMLIT


@pytest.mark.parametrize(
    "module", ["medisync.cli", "medisync.dashboard.data", "medisync.dashboard.charts", "medisync.artifacts"]
)
def test_importing_it_imports_no_torch(module: str) -> None:
    command = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", command], cwd=ROOT, check=False).returncode == 0
