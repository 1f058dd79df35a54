"""Runs `medisync` as `python -m medisync`."""

import sys

from medisync.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
