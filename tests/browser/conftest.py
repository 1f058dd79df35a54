"""Lets these tests use the factories one folder up, also when they are run alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
