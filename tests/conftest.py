"""Before torch starts: many small computations are faster on one thread each, here and in the processes tests start."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The two files that start whole federations, a dozen processes each, first and last: beside each other they would take
    nearly 24 GB.
    """
    places = {"test_network_faults.py": -1, "test_network.py": 1}
    items.sort(key=lambda item: places.get(item.path.name, 0))
