"""Set before torch starts: many small computations are faster on one thread each, here and in the processes tests start."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

settings.register_profile("medisync", deadline=None)  # a test may be slow on a busy machine, but never fails for it
settings.load_profile("medisync")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the two files that start whole federations, a dozen processes each, first and last: side by side they would
    take nearly 24 GB.
    """
    places = {"test_network_faults.py": -1, "test_network.py": 1}
    items.sort(key=lambda item: places.get(item.path.name, 0))
