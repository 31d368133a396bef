"""The disk of the home fails: the member waits and begins anew; a bug still ends the daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replicad.catalog.database import catalog_error
from replicad.config.settings import Settings
from replicad.daemon import run
from replicad.errors import CatalogDiskError, CatalogError, OperatorError
from replicad.ops.events import EventRing

FULL = CatalogDiskError("the catalog x cannot be written: database or disk is full")


class Office:
    """As much of a DaemonOffice as `_work` needs."""

    def __init__(self) -> None:
        self.group: Any = SimpleNamespace(name="demo")
        self.trouble = ""
        self.paused: list[str] = []

    def use(self, settings: Settings, member: object) -> None: ...

    def pause(self, trouble: str) -> None:
        self.trouble = trouble
        self.paused.append(trouble)


class Member:
    """A MemberAtWork that ends as the test wants; then one that runs until it is cancelled."""

    ends: list[BaseException]

    def __init__(self, *_: object) -> None:
        self.started = asyncio.Event()
        self.name = "m"
        self.network = SimpleNamespace(addresses=())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run())

    async def _run(self) -> None:
        if self.ends:
            raise self.ends.pop(0)
        self.started.set()
        await asyncio.Event().wait()


async def work(ends: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> tuple[Office, EventRing]:
    """`run._work` until a member runs; its exceptions come out."""
    monkeypatch.setattr(run, "MemberAtWork", Member)
    monkeypatch.setattr(run, "AGAIN_S", 0.001)
    Member.ends = ends
    office, events = Office(), EventRing()
    started = asyncio.Event()
    monkeypatch.setattr(run, "notify", lambda state: started.set() if b"member m" in state else None)
    working = asyncio.create_task(run._work(None, None, None, None, office, events))  # type: ignore[arg-type]
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    waiting.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working], timeout=5)
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error
    return office, events


async def test_a_member_whose_homes_disk_fails_begins_anew_and_it_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    office, events = await work([FULL, FULL, ExceptionGroup("more", [FULL, OperatorError("stopped")])], monkeypatch)
    assert office.paused == [str(FULL)] * 3
    assert [event.text for event in events.after(0)[1]] == [
        f"the member has stopped, and is tried again every 0 s: {FULL}"
    ]
    assert office.trouble == "", "it runs again"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), CatalogError("corrupt"), ExceptionGroup("both", [FULL, ZeroDivisionError()])]
)
async def test_what_is_no_fault_of_the_disk_ends_the_daemon(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseExceptionGroup):
        await work([error], monkeypatch)


def test_what_the_disk_does_to_a_catalog_is_told_apart_from_what_is_wrong_with_it(tmp_path: Path) -> None:
    for number in (errno.ENOSPC, errno.EROFS, errno.EIO):
        assert isinstance(catalog_error("x", OSError(number, os.strerror(number))), CatalogDiskError)
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    readonly = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        readonly.execute("INSERT INTO t VALUES (1)")
    readonly.close()
    error = catalog_error(path, caught.value)
    assert isinstance(error, CatalogDiskError)
    assert str(error) == (
        f"the catalog {path} cannot be written: attempt to write a readonly database; see to the disk of the home,"
        " and it goes on by itself"
    )
    path.write_bytes(b"no database at all" * 100)
    broken = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError) as caught_too:
        broken.execute("SELECT * FROM t")
    broken.close()
    assert not isinstance(catalog_error(path, caught_too.value), CatalogDiskError)
