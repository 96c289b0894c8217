"""``python -m vace_adapt``."""

from __future__ import annotations

import sys

from vace_adapt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
