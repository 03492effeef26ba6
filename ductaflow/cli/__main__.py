"""`python -m ductaflow.cli`: the same command, where it is not on the path."""

from __future__ import annotations

import sys

from ductaflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
