"""Which Flower this program was checked with, wherever it leaves Flower's public API."""

from importlib.metadata import version

from medisync.errors import FederationError

CHECKED_VERSION = "1.41."


def require_checked() -> None:
    """Raises FederationError for a Flower whose inner names nobody has read."""
    if not version("flwr").startswith(CHECKED_VERSION):
        raise FederationError(f"flwr {version('flwr')} is installed; this program was checked with {CHECKED_VERSION}x")
