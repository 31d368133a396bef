"""A daemon that counts its catalogs anew at once: `python -m tests.system.hasty` is `replicad`, but for that time."""

from __future__ import annotations

import sys

from replicad.cli.main import main
from replicad.daemon import counting

if __name__ == "__main__":
    counting.FIRST_S = 0.5
    sys.exit(main())
