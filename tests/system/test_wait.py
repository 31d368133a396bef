"""`replicad wait`: never early, never for what came later, and exit statuses that say why not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.harness import Server, Servers, until


def waited(server: Server, **request: object) -> dict[str, object]:
    """Over the control socket, without the cost of a process."""
    answer: dict[str, object] = server.ask("POST", "/v1/wait", request)
    return answer


@pytest.mark.timeout(300)
def test_wait_does_not_wait_for_what_is_written_all_the_while(servers: Servers) -> None:
    one, two = servers.group(2)
    stop = Path(one.base / "stop")
    program = (
        "import pathlib, sys, itertools, time\n"
        "folder, stop = map(pathlib.Path, sys.argv[1:])\n"
        "for number in itertools.count():\n"
        "    (folder / f'busy-{number % 200}').write_text(str(number))\n"
        "    if stop.exists(): break\n"
        "    time.sleep(0.002)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(one.folder()), str(stop)]) as writer:
        try:
            until("it writes", lambda: (one.folder() / "busy-20").exists())
            for number in range(10):
                (two.folder() / f"mine-{number}").write_text("x")
                assert waited(two, timeout_s=30)["done"]
                assert (one.folder() / f"mine-{number}").exists()
        finally:
            stop.touch()
            writer.wait(30)
    servers.synchronized(one, members=2)
    servers.same([one, two])


def test_a_member_that_is_missing_is_named_with_status_1(servers: Servers) -> None:
    one, two = servers.group(2)
    two.stop()
    done = one.run("wait", "--timeout", "0")
    assert done.returncode == 1
    assert "m1 is missing" in done.stderr
    assert "\n" not in done.stderr.strip()
    assert one.run("wait", "--timeout", "0", "--members", "1").returncode == 0
    done = one.run("wait", "--timeout", "0", "--members", "5")
    assert done.returncode == 1
    assert "are missing" in done.stderr


def test_a_member_that_comes_while_one_waits_counts(servers: Servers) -> None:
    one, two = servers.group(2)
    two.stop()
    (one.folder() / "f").write_text("x")
    two.begin()
    assert one.run("wait", "--timeout", "60").returncode == 0
    assert (two.folder() / "f").read_text() == "x"
    two.await_start()


def test_a_member_that_does_not_answer_ends_the_wait_with_status_4(servers: Servers) -> None:
    one, two = servers.group(2)
    two.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = one.run("wait", "--timeout", "2")
        assert done.returncode == 4
        assert "m1" in done.stderr
        assert time.monotonic() - began < 20
    finally:
        two.send_signal(signal.SIGCONT)
    assert one.run("wait", "--timeout", "60").returncode == 0


def test_an_object_that_is_blocked_is_named_with_status_1(servers: Servers) -> None:
    one, two = servers.group(2)
    (one.folder() / "d").mkdir()
    servers.synchronized(one, members=2)
    blocker = two.folder() / "d" / "pipe"
    os.mkfifo(blocker)
    (one.folder() / "d").rmdir()
    done = one.run("wait", "--timeout", "3")
    assert done.returncode == 1
    assert "d is blocked on m1" in done.stderr
    shot = two.folder_status()
    assert any(row["path"] == "d" for row in shot["blocked"])
    blocker.unlink()
    assert one.run("wait", "--timeout", "90").returncode == 0
    assert not (two.folder() / "d").exists()
