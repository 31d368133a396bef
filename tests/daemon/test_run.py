"""How a daemon comes by its home."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from replicad.daemon import run
from replicad.ops.home import HomeBusyError, locked

HOLDER = """
import sys
from pathlib import Path
from replicad.ops.home import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by(command: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the home until its input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, home, command], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_a_daemon_waits_for_a_command_that_works_on_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    with held_by("set", tmp_path) as holder, ExitStack() as held:

        def sleep(time_s: float) -> None:
            slept.append(time_s)
            holder.communicate()

        monkeypatch.setattr(run.time, "sleep", sleep)
        run._hold(tmp_path, held)
        with pytest.raises(HomeBusyError), locked(tmp_path, "set"):
            pass
    assert slept == [run.COMMAND_POLL_S]


def test_a_daemon_does_not_wait_for_another_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.time, "sleep", lambda time_s: pytest.fail("it waits"))
    with held_by("run", tmp_path), ExitStack() as held, pytest.raises(HomeBusyError, match="replicad run"):
        run._hold(tmp_path, held)


def test_a_daemon_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "COMMAND_S", 0.0)
    with held_by("set", tmp_path), ExitStack() as held, pytest.raises(HomeBusyError, match="replicad set"):
        run._hold(tmp_path, held)
