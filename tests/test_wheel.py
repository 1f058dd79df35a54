"""The wheel works without a checkout: it holds the project's files, and the program runs from it in an empty folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT_FILES = ("notebook.ipynb", "app.py", ".streamlit/config.toml", "pyproject.toml", "deploy/README.md")

OPEN_EVERYTHING = """
from pathlib import Path

import medisync
from medisync import notebook, project_files, version
from medisync.workspace import artifacts
from streamlit.testing.v1 import AppTest

assert not project_files.IN_CHECKOUT
assert notebook.configuration().federation.rounds == 600
assert artifacts.locate().root == Path.cwd()
app = AppTest.from_file(str(project_files.APP), default_timeout=600).run()
assert not app.exception
pages = sorted((Path(medisync.__file__).parent / "dashboard" / "pages").glob("[!_]*.py"))
assert len(pages) == 8
for page in pages:
    assert not app.switch_page(str(page)).run().exception, page
print(medisync.__file__, version.software())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel installed; it sees this environment's dependencies, but not its checkout."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", str(wheel)]
    subprocess.run([*install, "--python", str(folder / "bin" / "python")], check=True)
    return folder


def run(environment: Path, folder: Path, command: str, *arguments: str) -> str:
    """Returns what a command of the environment prints, run in `folder` without this process's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MEDISYNC_"))}
    done = subprocess.run(
        [str(environment / "bin" / command), *arguments],
        cwd=folder,
        env={**clean, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_the_projects_files(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("medisync/")}
        for name in PROJECT_FILES:
            assert archive.read(f"medisync/project/{name}") == (ROOT / name).read_bytes()
    listed = subprocess.run(["git", "ls-files", "medisync"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert held >= set(listed.stdout.split())
    assert {name for name in held if not (ROOT / name).exists()} == {
        f"medisync/project/{name}" for name in PROJECT_FILES
    }


def test_the_source_distribution_holds_what_the_wheel_is_built_from(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames()}
    assert held >= {*PROJECT_FILES, "README.md", "medisync/__init__.py"}
    assert not [name for name in held if name.startswith(("artifacts", "dataset", "logs", "models"))]


def test_the_demo_and_the_dashboard_work_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    assert f"making phantom hospitals in {Path('demo', 'dataset')}" in run(
        environment, tmp_path, "medisync", "demo", "--no-train"
    )
    assert (tmp_path / "demo" / "dataset" / "PHANTOM.json").is_file()
    said = run(environment, tmp_path, "python", "-c", OPEN_EVERYTHING)
    assert said.startswith(str(environment))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["demo"]


def test_the_wheel_and_the_checkout_are_the_same_program(environment: Path, tmp_path: Path) -> None:
    """A hospital that installed the wheel takes part in the federation of a server that runs a checkout."""
    from medisync.version import software

    said = run(environment, tmp_path, "python", "-c", "from medisync.version import software; print(software())")
    assert said.strip() == software()
