"""The version of Flower that this program was checked with, for code that goes beyond Flower's public API."""

from importlib.metadata import version

from medisync.errors import FederationError

CHECKED_VERSION = "1.41."


def require_checked() -> None:
    """Raises FederationError if another version of Flower is installed, whose internals may differ."""
    if not version("flwr").startswith(CHECKED_VERSION):
        raise FederationError(f"flwr {version('flwr')} is installed; this program was checked with {CHECKED_VERSION}x")
