"""Two members, one folder: every kind of change, in both directions, while running and while stopped."""

import os
from pathlib import Path

from tests.system.harness import Servers


def write(path: Path, data: bytes, mode: int = 0o644, mtime_ns: int = 1_600_000_000_123_456_789) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def test_every_kind_of_change_arrives(servers: Servers) -> None:
    one, two = members = servers.group(2)
    a, b = one.folder(), two.folder()
    write(a / "small", b"x")
    write(a / "empty", b"")
    write(a / "d/e/f/deep", b"deep", mode=0o600)
    write(a / "run.sh", b"#!/bin/sh\n", mode=0o755, mtime_ns=1)
    write(a / "large", os.urandom(3_000_000))
    (a / "hollow/inner").mkdir(parents=True)
    (a / "hollow").chmod(0o750)
    (a / "link").symlink_to("d/e")
    (a / os.fsdecode(b"bytes-\xff\xfe")).write_bytes(b"not UTF-8")
    servers.synchronized(one)
    servers.same(members)
    assert (b / "large").stat().st_size == 3_000_000

    write(b / "small", b"edited on the other side")
    (b / "d").rename(b / "renamed")
    (b / "run.sh").rename(b / "hollow/moved.sh")
    (b / "empty").unlink()
    (b / "link").unlink()
    (b / "link").symlink_to("elsewhere")
    (b / "hollow/moved.sh").chmod(0o700)
    servers.synchronized(two)
    servers.same(members)
    assert (a / "renamed/e/f/deep").read_bytes() == b"deep"

    (a / "large").unlink()
    (a / "large").mkdir()  # a file that becomes a directory
    write(a / "large/inside", b"y")
    (a / "hollow/inner").rmdir()
    (a / "hollow/inner").write_bytes(b"a directory that becomes a file")
    servers.synchronized(one)
    servers.same(members)
    assert all(server.folder_status()["blocked"] == [] for server in members)


def test_changes_made_while_a_member_is_stopped_arrive_at_its_start(servers: Servers) -> None:
    one, two = members = servers.group(2)
    write(one.folder() / "d/f", b"1")
    write(one.folder() / "g", b"2")
    servers.synchronized(one)
    two.stop()
    write(two.folder() / "d/f", b"edited offline")
    write(two.folder() / "new", b"made offline")
    (two.folder() / "g").rename(two.folder() / "d/g")
    write(one.folder() / "other", b"made online meanwhile")
    two.start()
    servers.synchronized(two)
    servers.same(members)
    assert (one.folder() / "d/f").read_bytes() == b"edited offline"
    assert (one.folder() / "d/g").read_bytes() == b"2"


def test_i12_after_kill_9_a_member_goes_on_where_it_was(servers: Servers) -> None:
    one, two = members = servers.group(2)
    for number in range(200):
        write(one.folder() / f"d{number % 7}/f{number}", os.urandom(number * 10))
    two.kill()
    for number in range(200, 300):
        write(one.folder() / f"d{number % 7}/f{number}", os.urandom(number))
    two.start()
    servers.synchronized(one)
    servers.same(members)
    assert two.folder_status()["preserved"]["files"] == 0
