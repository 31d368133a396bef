"""A process that has imported what every red test needs, and forks a pytest for each order: importing is most of what
a short run of pytest costs.

Run as a program by tests/plants/run.py. An order is a line of JSON on the standard input: `arguments` of pytest, `cwd`,
`environment`, `path` (the first entries of sys.path) and `limit_s`; a line with pytest's exit status (-1: ended by a
signal or by the limit) answers it when nothing of the run is left.

Nothing of the project itself is imported here: that comes from the copy that the order names. What is imported, is so
by a session of pytest with nothing to test, since pytest warns of plug-ins that it has not loaded itself.
"""

import io
import json
import os
import random
import select
import signal
import sys
import tempfile
import threading
from contextlib import redirect_stdout
from pathlib import Path

WARM = """\
import asyncio
import contextlib
import importlib
import pytest

for name in (
    "aiohttp.web",
    "alembic.command",
    "blake3",
    "concurrent.futures.process",
    "cryptography.x509",
    "hypothesis.stateful",
    "msgspec",
    "multiprocessing.connection",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "unittest.mock",
    "watchdog.events",
    "xxhash",
):
    with contextlib.suppress(ImportError):  # a test that needs it tells
        importlib.import_module(name)


def test_nothing():
    pass
"""


def warm_up() -> None:
    """Raises SystemExit where pytest cannot run at all."""
    import pytest

    with tempfile.TemporaryDirectory(prefix="plant-warm-") as scratch, redirect_stdout(io.StringIO()) as said:
        Path(scratch, "test_warm.py").write_text(WARM)
        os.chdir(scratch)
        Path(scratch, "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        status = pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "test_warm.py"])
        os.chdir("/")
    if status:
        raise SystemExit(f"pytest does not start: {said.getvalue()}")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("replicad", "tests", "test_warm")]:
        del sys.modules[name]  # of the warming test itself; anything else would be a module of the wrong tree
    assert threading.active_count() == 1, "only a process without threads may be forked"


def run(order: dict[str, object]) -> None:
    """In the child: never returns."""
    status = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])  # type: ignore[call-overload]
        tempfile.tempdir = None
        os.chdir(order["cwd"])  # type: ignore[arg-type]
        sys.path[:0] = order["path"]  # type: ignore[call-overload]
        random.seed()
        import pytest

        status = int(pytest.main(order["arguments"]))  # type: ignore[arg-type]
    finally:
        os._exit(status)


def await_end(child: int, limit_s: float) -> int:
    """Ends with nothing of it left running: a planted daemon may not stop by itself."""
    descriptor = os.pidfd_open(child)
    ended = bool(select.select([descriptor], [], [], limit_s)[0])
    os.close(descriptor)
    try:
        # Before the child is waited for: its number is its group's, and is free to be given out again after that.
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)  # it has not come to have a group
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if ended and os.WIFEXITED(status) else -1


def main() -> None:
    sys.path.remove(str(Path(__file__).resolve().parent))  # this file's: an order says where modules are looked for
    warm_up()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            run(order)
        print(await_end(child, order["limit_s"]), flush=True)


if __name__ == "__main__":
    main()
