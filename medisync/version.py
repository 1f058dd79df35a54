"""Identifies the program to the byte, for the two sides of a network to compare and for caches to depend on."""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from medisync.project_files import PACKAGED


@lru_cache
def software() -> str:
    """Returns the version of this program and a digest of its code, such as "0.1.0 (code 1f3a...)"."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for file in package.rglob("*.py") if not file.is_relative_to(PACKAGED)):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return f"{version('medisync')} (code {digest.hexdigest()[:12]})"
