"""A daemon that takes every catalog for a large one, and counts it anew soon after the start: `python -m
tests.system.hasty` is `replicad`, but for that."""

from __future__ import annotations

import sys

from replicad.cli.main import main
from replicad.daemon import counting

if __name__ == "__main__":
    counting.FIRST_S, counting.AT_ONCE_BYTES = 0.5, 0
    sys.exit(main())
