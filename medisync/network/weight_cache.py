"""The weights that a node was sent last, kept in its state folder until others come."""

from pathlib import Path

from medisync.workspace import atomic

SUFFIX = ".safetensors"


class FolderWeightCache:
    """One block of bytes by its name, in a folder that holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        """The block, if it is the one that is kept."""
        try:
            return (self._folder / f"{name}{SUFFIX}").read_bytes()
        except OSError:
            return None

    def put(self, name: str, block: bytes) -> None:
        """In the place of the last one."""
        for old in self._folder.glob(f"*{SUFFIX}"):
            old.unlink(missing_ok=True)
        atomic.write_bytes(self._folder / f"{name}{SUFFIX}", block)
