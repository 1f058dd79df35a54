"""The last weights that a node received, kept in its state folder until the next arrive."""

from pathlib import Path

from medisync.workspace import atomic

SUFFIX = ".safetensors"


class FolderWeightCache:
    """Keeps one named block of bytes in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        """Returns the block of this name, or None if another or none is kept."""
        try:
            return (self._folder / f"{name}{SUFFIX}").read_bytes()
        except OSError:
            return None

    def put(self, name: str, block: bytes) -> None:
        """Replaces the block that was kept before."""
        for old in self._folder.glob(f"*{SUFFIX}"):
            old.unlink(missing_ok=True)
        atomic.write_bytes(self._folder / f"{name}{SUFFIX}", block)
