"""`python -m replicad` is `replicad`."""

import sys

from replicad.cli.main import main

sys.exit(main())
