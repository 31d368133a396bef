"""The daemon from its start to its end: home, API, group, member; signals; systemd.

It answers at its control socket from the first moment, also while its home belongs to no group yet: then `init` and
`join` are carried out by it, and it goes on as a member.

A home that refuses writes stops what has to write, and nothing else: a folder whose catalog is concerned
(daemon.folders; its content is still served), changes of the group and new links (daemon.keeping). Only at the start
the member waits for it: each run of the hierarchy is counted in its catalog before anybody is told anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from replicad import __version__
from replicad.config.loading import Sources, load
from replicad.config.settings import GroupSettings, Settings
from replicad.core.naming import group_id_from_secret
from replicad.daemon.clock import wall_ms
from replicad.daemon.member import MemberAtWork
from replicad.daemon.office import DaemonOffice
from replicad.errors import CatalogDiskError, CatalogError, OperatorError, ReplicadError, UsageError
from replicad.net.identity import Identity, load_or_create
from replicad.ops.api import OperatorApi
from replicad.ops.events import EventRing, OperatorEvent
from replicad.ops.home import DAEMON, Group, HomeBusyError, create_home, locked, read_group, write_group
from replicad.ops.text import escaped, shown

AGAIN_S = 10.0
"""Until a member whose home's disk failed is tried again."""
COMMAND_S, COMMAND_POLL_S = 10.0, 0.05
"""For a command to be done with the home: none works on it for a second, on a machine that is not overloaded."""
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 8, 4_096
"""Of a declared group's secret: shorter ones can be guessed, longer ones are another file."""

log = logging.getLogger("replicad")


def run(sources: Sources) -> int:
    """Until SIGTERM or SIGINT; exit status 0. Raises OperatorError where it cannot run."""
    settings = load(sources)
    _log_to_stderr(settings.log.level)
    create_home(settings.member.home)
    with ExitStack() as held:
        _hold(settings.member.home, held)
        asyncio.run(_run(sources, settings))
    return 0


def _hold(home: Path, held: ExitStack) -> None:
    """A command that works on the home while no daemon runs is waited for: who starts daemons need not know of it."""
    deadline = time.monotonic() + COMMAND_S
    while True:
        try:
            held.enter_context(locked(home, DAEMON))
            return
        except HomeBusyError as error:
            if error.stays or time.monotonic() > deadline:
                raise
            time.sleep(COMMAND_POLL_S)


async def _run(sources: Sources, settings: Settings) -> None:
    home = settings.member.home
    secret = await asyncio.to_thread(read_secret, settings.group) if settings.group is not None else None
    identity = await asyncio.to_thread(load_or_create, home)
    group = await asyncio.to_thread(_group_of, home, settings, secret)
    events = EventRing(on_event=_log_event)
    office = DaemonOffice(settings, identity, group)
    api = OperatorApi(office, office, events, settings.api, home)
    with _stop_signals() as stopped:
        await api.start()
        office.api_addresses = api.addresses
        try:
            work = asyncio.create_task(_work(sources, settings, secret, identity, office, events))
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            notify(b"STOPPING=1")
            if not work.done():
                log.info("stopping")
                work.cancel()
            with suppress(asyncio.CancelledError):
                await _unwrapped(work)
        finally:
            await api.stop()


async def _work(
    sources: Sources,
    settings: Settings,
    secret: bytes | None,
    identity: Identity,
    office: DaemonOffice,
    events: EventRing,
) -> None:
    """Until it is cancelled."""
    if office.group is None:
        log.info("replicad %s: %s belongs to no group yet: init or join", __version__, office.home)
        notify(b"READY=1\nSTATUS=no group yet")
        await office.entered.wait()
        settings = load(sources)  # init and join write settings
    assert office.group is not None
    stopping = asyncio.current_task()
    assert stopping is not None
    while (trouble := await _take_part(settings, secret, identity, office, events)) is not None:
        if stopping.cancelling():
            return  # the disk failed while the member was being stopped
        if str(trouble) != office.trouble:
            events.add(wall_ms(), 0, f"the member has stopped, and is tried again every {AGAIN_S:.0f} s: {trouble}")
        office.pause(str(trouble))
        notify(b"READY=1\nSTATUS=stopped: its disk fails")
        await asyncio.sleep(AGAIN_S)


async def _take_part(
    settings: Settings, secret: bytes | None, identity: Identity, office: DaemonOffice, events: EventRing
) -> CatalogDiskError | None:
    """Until it is cancelled; or the disk of the hierarchy's catalog has kept it from beginning, which may heal."""
    assert office.group is not None
    member = MemberAtWork(settings, identity, office.group, secret, events)
    office.use(settings, member)
    running = asyncio.create_task(member.run())
    started = asyncio.create_task(member.started.wait())
    try:
        await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            where = ", ".join(map(str, member.network.addresses))
            log.info("replicad %s: member %s of group %s at %s", __version__, member.name, office.group.name, where)
            notify(b"READY=1\nSTATUS=member %s" % member.name.encode())
            office.trouble = ""
        await running
        return None
    except BaseExceptionGroup as group:
        trouble = _disk_trouble(group)
        if trouble is None:
            raise
        return trouble
    except asyncio.CancelledError:
        running.cancel()
        await running
        raise
    finally:
        started.cancel()


def _disk_trouble(group: BaseExceptionGroup[BaseException]) -> CatalogDiskError | None:
    """What the disk did to the catalog, where nothing but that (and what came of it) ended the member."""
    _, bugs = group.split(ReplicadError)
    found: BaseException | None = group.subgroup(CatalogDiskError) if bugs is None else None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, CatalogDiskError) else None


async def _unwrapped(work: asyncio.Task[None]) -> None:
    """TaskGroups wrap what ends them: an operator's mistake and a broken catalog come out as themselves."""
    try:
        await work
    except BaseExceptionGroup as group:
        found = group.subgroup((OperatorError, CatalogError))
        error: BaseException | None = found
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            raise error from None
        raise


def read_secret(group: GroupSettings) -> bytes:
    """The declared secret, without space at its ends. UsageError says what is wrong with the file."""
    try:
        with group.secret_file.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise UsageError(f"group.secret_file: {group.secret_file} cannot be read: {error.strerror}") from error
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise UsageError(
            f"group.secret_file: {group.secret_file} must hold {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
        )
    return secret


def _group_of(home: Path, settings: Settings, secret: bytes | None) -> Group | None:
    """The home's group; a declared one is entered here. OperatorError where the two are not the same."""
    held = read_group(home)
    declared = settings.group
    if declared is None or secret is None:
        return held
    group_id = group_id_from_secret(secret, declared.name)
    if held is not None and held.group_id != group_id:
        raise OperatorError(
            f"{home} belongs to the group {held.name}, and another one is declared ({declared.name}, or its secret has"
            " changed): take another home, or the group's name and secret of before"
        )
    if held is None:
        if settings.member.name is None:
            raise UsageError("member.name: is missing: a declared member needs a name")
        held = Group(group_id, declared.name, settings.member.name, declared=True)
        write_group(home, held)
    return held


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Set when the daemon is asked to end."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def notify(state: bytes) -> None:
    """Tell systemd (sd_notify), where it has asked to be told."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return
    address = os.fsencode(where)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        try:
            sending.sendto(state, b"\0" + address[1:] if where.startswith("@") else address)
        except OSError as error:
            log.warning("cannot notify %s: %s", where, error.strerror or error)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _log_event(event: OperatorEvent) -> None:
    where = f"folder {event.folder}: " if event.folder else ""
    path = f" ({shown(event.path)})" if event.path else ""
    code = f"[{event.code}] " if event.code else ""
    log.info("%s%s%s%s", code, where, escaped(event.text), path)
