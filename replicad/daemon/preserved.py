"""The commands `preserved ...`: each folder's list put together for people, and what is done about one file.

An id says folder, member and number: `docs:alpha:17`. Files of one path and one content that several members keep are
one line, which names all of them; what is brought back is the one whose id is given, first this member's own.

Where several folders are listed at once, the rows of one list (LISTED_ROWS_MAX) are shared out among them: the answer
has no more of them than for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING
from replicad.core.effects import Changed, Effect
from replicad.core.hierarchy_model import Reading
from replicad.core.ids import MemberId
from replicad.core.messages import WHY_CHARACTERS_MAX, PreservedRow, RestoreReply
from replicad.core.records import DIRECTORY, FILE
from replicad.daemon.clock import wall_ms
from replicad.daemon.driver import DriverStoppedError
from replicad.daemon.folder_runtime import FolderRuntime
from replicad.engine.folder import FolderReplica
from replicad.engine.preserved_asking import LISTED_ROWS_MAX, Failure, Listing
from replicad.errors import OperatorError, UsageError
from replicad.ops import requests as r
from replicad.ops.operations import find_member
from replicad.ops.text import escaped, path_json, rfc3339

EMPTIED_A_STEP = 256
"""Files deleted in one go: the folder's thread does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Around:
    """What these commands need to know of the daemon."""

    own: MemberId
    reading: Callable[[], Reading]
    kept: Callable[[], Sequence[str]]
    running: Callable[[], Mapping[str, FolderRuntime]]
    named: Callable[[MemberId], str]


async def preserved(request: r.OfPreserved, around: Around) -> dict[str, Any]:
    """Raises OperatorError."""
    match request:
        case r.PreservedList(folder=folder):
            return await _list(folder, around)
        case r.PreservedRestore(id=text, to=to):
            return await _restore(text, to, around)
        case r.PreservedDelete(ids=ids):
            return await _delete(ids, around)
        case r.PreservedEmpty():
            return await _empty(request, around)


# -- list


async def _list(folder: str | None, around: Around) -> dict[str, Any]:
    names = [folder] if folder is not None else list(around.kept())
    if folder is not None and folder not in around.kept():
        raise OperatorError(f"the folder {folder} is not kept here: ask a member that keeps it")
    rows_max = max(1, LISTED_ROWS_MAX // max(1, len(names)))
    listed = await asyncio.gather(*(_list_folder(name, rows_max, around) for name in names))
    rows = [row for found, _, _ in listed for row in found]
    return {
        "preserved": sorted(rows, key=lambda row: (row["folder"], row["when"], row["id"])),
        "not_answering": [one for _, missing, _ in listed for one in missing],
        "left_off": [one for _, _, left_off in listed for one in left_off],
    }


async def _list_folder(
    name: str, rows_max: int, around: Around
) -> tuple[list[dict[str, Any]], list[dict[str, str]], list[dict[str, Any]]]:
    """Rows, members that do not answer, members that keep more than is listed."""
    runtime = around.running().get(name)
    if runtime is None or not runtime.open:
        missing = [{"folder": name, "member": around.named(around.own), "reason": "the folder does not run here"}]
        return [], missing, []
    try:
        listing = await _ask(runtime, _others(runtime, around), rows_max)
    except DriverStoppedError as error:
        return [], [{"folder": name, "member": around.named(around.own), "reason": str(error)}], []
    return (
        await asyncio.to_thread(_rows, name, runtime, listing, around),  # half a second for as many as there may be
        [
            {"folder": name, "member": around.named(one), "reason": _reason(failure, around)}
            for one, failure in sorted(listing.failed.items())
        ],
        [
            {"folder": name, "member": around.named(one), "files": files}
            for one, files in sorted(listing.left_off.items())
        ],
    )


def _others(runtime: FolderRuntime, around: Around) -> set[MemberId]:
    """In the folder's replica list."""
    info = around.reading().folders.get(runtime.place.folder)
    return {member for member in info.members if member != around.own} if info is not None else set()


def _reason(failure: Failure, around: Around) -> str:
    if not failure.through:
        return failure.reason
    return f"{failure.reason}; it was asked through {', '.join(around.named(one) for one in failure.through)}"


async def _ask(runtime: FolderRuntime, others: set[MemberId], rows_max: int) -> Listing:
    def begin(replica: FolderReplica, now_ms: int) -> tuple[int, Sequence[Effect]]:
        return replica.preserved.list_group(others, now_ms, rows_max=rows_max)

    driver = runtime.driver
    ticket = await driver.act(begin)
    try:
        return await driver.until(lambda replica: replica.preserved.listing(ticket, wall_ms()))
    finally:
        driver.command(lambda replica: replica.preserved.forget(ticket))


def _rows(name: str, runtime: FolderRuntime, listing: Listing, around: Around) -> list[dict[str, Any]]:
    """One for each content at a path, whoever keeps it; what is not known to be equal stands for itself."""
    equal: dict[tuple[Any, ...], list[tuple[MemberId, PreservedRow]]] = {}
    for member, rows in sorted(listing.rows.items(), key=lambda item: (item[0] != around.own, around.named(item[0]))):
        for row in rows:
            alone = not row.digest or row.kind != FILE
            key = (row.path, row.pre_existing, *((member, row.number) if alone else (row.digest,)))
            equal.setdefault(key, []).append((member, row))
    owners = around.reading().replica_owners

    def who(replica: int) -> str | None:
        owner = owners.get((runtime.place.folder, replica))
        return around.named(owner) if owner is not None else None

    return [_row(name, kept, who, around) for kept in equal.values()]


def _row(
    folder: str,
    kept: Sequence[tuple[MemberId, PreservedRow]],
    who: Callable[[int], str | None],
    around: Around,
) -> dict[str, Any]:
    first = min((row for _, row in kept), key=lambda row: row.when_ms)
    ids = [f"{folder}:{around.named(member)}:{row.number}" for member, row in kept]
    return {
        "id": ids[0],
        "ids": ids,
        "folder": folder,
        "path": path_json(first.path),
        "kind": "file" if first.kind == FILE else "directory" if first.kind == DIRECTORY else "symlink",
        "bytes": first.size,
        "store": PRE_EXISTING if first.pre_existing else CONFLICT_AND_DELETED,
        "why": first.why,
        "when": rfc3339(first.when_ms),
        "written_by": who(first.replica),
        "won_by": who(first.winner),
        "members": list(dict.fromkeys(around.named(member) for member, _ in kept)),
        "digest": first.digest.hex() or None,
    }


# -- one file


async def _restore(text: str, to: str | None, around: Around) -> dict[str, Any]:
    name, member, number, runtime = _find(text, around)
    try:
        target = to.encode() if to is not None else b""
    except UnicodeEncodeError as error:
        raise UsageError("--to: the path must be UTF-8") from error
    if to == "":
        raise UsageError("--to: a path is wanted")

    path = await _restore_at(runtime, member, number, target, around)
    return {"id": text, "folder": name, "member": around.named(member), "path": path_json(path)}


async def _restore_at(runtime: FolderRuntime, member: MemberId, number: int, target: bytes, around: Around) -> bytes:
    """The member that has the file does it; from there it comes here like any other."""
    driver, others = runtime.driver, _others(runtime, around)
    if member != around.own and member not in others:
        raise OperatorError(f"{around.named(member)} does not keep this folder")

    def begin(replica: FolderReplica, now_ms: int) -> tuple[int, Sequence[Effect]]:
        return replica.preserved.restore_at(member, number, target, others, now_ms)

    ticket = await driver.act(begin)
    try:
        reply: RestoreReply | Failure = await driver.until(
            lambda replica: replica.preserved.restored(ticket, wall_ms())
        )
    finally:
        driver.command(lambda replica: replica.preserved.forget(ticket))
    named = "" if member == around.own else f"{around.named(member)}: "
    if isinstance(reply, Failure):
        raise OperatorError(named + _reason(reply, around))
    if not reply.path:
        raise OperatorError(named + (escaped(reply.reason[:WHY_CHARACTERS_MAX]) or "it did not say why"))
    return reply.path


async def _delete(ids: Sequence[str], around: Around) -> dict[str, Any]:
    found: dict[str, tuple[FolderRuntime, list[int]]] = {}
    for text in ids:
        name, member, number, runtime = _find(text, around)
        if member != around.own:
            raise OperatorError(f"{text} is kept by {around.named(member)}: delete it there")
        found.setdefault(name, (runtime, []))[1].append(number)
    files = size = 0
    for runtime, numbers in found.values():
        done = await runtime.driver.act(
            lambda replica, now_ms, numbers=numbers: (replica.preserved.delete(numbers, now_ms), [Changed()])  # type: ignore[misc]
        )
        files, size = files + done[0], size + done[1]
    return {"files": files, "bytes": size}


async def _empty(request: r.PreservedEmpty, around: Around) -> dict[str, Any]:
    runtime = _running(request.folder, around)
    until_ms = wall_ms() - request.older_than_s * 1000
    files = size = 0
    more = True
    while more:
        done = await runtime.driver.act(
            lambda replica, now_ms: (
                replica.preserved.empty(request.store, until_ms, EMPTIED_A_STEP, now_ms),
                [Changed()],
            )
        )
        files, size, more = files + done[0], size + done[1], done[2]
    return {"folder": request.folder, "store": request.store, "files": files, "bytes": size}


def _find(text: str, around: Around) -> tuple[str, MemberId, int, FolderRuntime]:
    """Folder, member and number of an id. `MEMBER:NUMBER` will do where one folder is kept here."""
    parts = text.split(":")
    if len(parts) == 2 and len(around.kept()) == 1:
        parts = [around.kept()[0], *parts]
    if len(parts) != 3 or not parts[2].isascii() or not parts[2].isdigit() or len(parts[2]) > 18:
        raise UsageError(f"{text!r} is no id: take FOLDER:MEMBER:NUMBER as `replicad preserved list` gives it")
    name, member, number = parts
    return name, find_member(around.reading(), member), int(number), _running(name, around)


def _running(name: str, around: Around) -> FolderRuntime:
    if name not in around.kept():
        raise OperatorError(f"the folder {name} is not kept here")
    runtime = around.running().get(name)
    if runtime is None or not runtime.open:
        raise OperatorError(f"the folder {name} does not run: see `replicad status`")
    return runtime
