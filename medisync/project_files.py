"""The project's files that lie outside the package: in a checkout at its top, in a wheel as package data.

The notebook, the dashboard's entry script with its theme, and what Flower bundles stand at the top of the repository, where
people look for them; pyproject.toml copies them into the wheel.
"""

from pathlib import Path

PACKAGED = Path(__file__).resolve().parent / "project"
"""The wheel's copy; a checkout has none."""

IN_CHECKOUT = not PACKAGED.is_dir()
ROOT = PACKAGED.parent.parent if IN_CHECKOUT else PACKAGED
NOTEBOOK = ROOT / "notebook.ipynb"
APP = ROOT / "app.py"
FLOWER_APP = ("pyproject.toml", "deploy/README.md")
"""Relative to ROOT; pyproject.toml's `[tool.flwr.app]` describes the app."""


def demo_workspace() -> Path:
    """Returns the demo's workspace: `demo/` in the checkout, else in the current folder."""
    return (ROOT if IN_CHECKOUT else Path.cwd()) / "demo"
