"""`python -m medisync` is `medisync`."""

import sys

from medisync.cli import main

if __name__ == "__main__":
    sys.exit(main())
