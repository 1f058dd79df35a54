"""Before torch starts: many small computations are faster on one thread each, here and in the processes tests start."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
