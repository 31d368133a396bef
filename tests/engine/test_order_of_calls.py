"""I12: the applier's own order in its system calls: sync, intents, acts, sync, commit (tests/system/trace.py).

The whole daemon's, with what it fetches and what it tells, is in tests/system/test_order_of_syncs.py.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.trace import Order, tracer


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_i12_a_batch_is_synced_before_its_intents_and_before_it_is_entered(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [*tracer(trace), sys.executable, "-m", "tests.engine.traced_batch", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    order = Order(str(tmp_path / "docs"))
    assert order.check(trace.read_text(errors="replace").splitlines()) == []
    assert order.seen["intents"] > 10
    assert order.seen["changes of the tree"] > 10
    assert order.seen["batches entered"] >= 2
