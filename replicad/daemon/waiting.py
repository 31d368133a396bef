"""The command `wait`: a fence in each folder asked for, and what they came to in one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replicad.core.fence import WaitResult
from replicad.core.ids import FolderId, MemberId
from replicad.daemon.driver import DriverStoppedError
from replicad.daemon.folder_runtime import FolderRuntime
from replicad.engine.folder import FolderReplica
from replicad.errors import OperatorError
from replicad.ops.requests import Wait
from replicad.ops.text import path_json, shown

POLL_S = 0.05
"""Until a folder that is only being opened is looked at again."""
SHOWN_MAX = 10
"""Of the reasons in the one line for people; JSON has all."""

Named = Callable[[MemberId], str]


async def wait(
    request: Wait,
    kept: Callable[[], Sequence[str]],
    running: Callable[[], Mapping[str, FolderRuntime]],
    expected: Callable[[FolderId], frozenset[MemberId]],
    named: Named,
) -> dict[str, Any]:
    """`expected` are the members of a folder now. Raises OperatorError where there is nothing to wait for."""
    names = [request.folder] if request.folder is not None else list(kept())
    if not names:
        raise OperatorError("no folder is kept here: there is nothing to wait for")
    if request.folder is not None and request.folder not in kept():
        raise OperatorError(f"the folder {request.folder} is not kept here")
    deadline = asyncio.get_running_loop().time() + request.timeout_s
    results = await asyncio.gather(*(_wait_one(name, request, running, expected, deadline) for name in names))
    return _answer(dict(zip(names, results, strict=True)), named)


async def _wait_one(
    name: str,
    request: Wait,
    running: Callable[[], Mapping[str, FolderRuntime]],
    expected: Callable[[FolderId], frozenset[MemberId]],
    deadline: float,
) -> WaitResult:
    """None of this raises what a folder that stops would: it is a reason like others."""
    loop = asyncio.get_running_loop()
    while (runtime := running().get(name)) is None or not runtime.open:
        if loop.time() >= deadline:
            return WaitResult(False, behind=(("", f"the folder {name} is not open here"),))
        await asyncio.sleep(POLL_S)
    left_ms = max(0, round((deadline - loop.time()) * 1000)) if request.timeout_s else 0
    members = expected(runtime.place.folder)
    try:
        return await _fence(runtime, members, left_ms, request.members)
    except DriverStoppedError:
        return WaitResult(False, behind=(("", f"the folder {name} has stopped"),))


async def _fence(
    runtime: FolderRuntime, members: frozenset[MemberId], timeout_ms: int, count: int | None
) -> WaitResult:
    driver = runtime.driver

    def begin(replica: FolderReplica, now_ms: int) -> tuple[int, Sequence[Any]]:
        assert replica.fences is not None
        return replica.fences.start(members, timeout_ms, now_ms, count=count)

    def result(replica: FolderReplica) -> WaitResult | None:
        assert replica.fences is not None
        return replica.fences.result(ticket)

    ticket = await driver.act(begin)
    try:
        return await driver.until(result)
    finally:
        driver.command(lambda replica: replica.fences.cancel(ticket) if replica.fences is not None else None)


def _answer(results: Mapping[str, WaitResult], named: Named) -> dict[str, Any]:
    """All of it as JSON, and in one line."""
    status = 0
    for result in results.values():
        status = result.exit_status if status in (0, 4) and result.exit_status else status
    return {
        "done": status == 0,
        "exit_status": status,
        "text": "; ".join(_line(name, result, named) for name, result in results.items() if not result.done) or "done",
        "folders": [_folder(name, result, named) for name, result in results.items()],
    }


def _folder(name: str, result: WaitResult, named: Named) -> dict[str, Any]:
    return {
        "name": name,
        "done": result.done,
        "members": [named(member) for member in result.members],
        "missing": [{"member": named(member), "reason": reason} for member, reason in result.missing],
        "missing_count": len(result.missing) + result.short,
        "behind": [{"member": named(member), "reason": reason} for member, reason in result.behind],
        "blocked": [
            {"member": named(member), "path": path_json(path), "reason": reason}
            for member, path, reason in result.blocked
        ],
        "blocked_count": result.blocked_count,
    }


def _line(name: str, result: WaitResult, named: Named) -> str:
    parts = [f"{named(member)} is missing ({reason})" for member, reason in result.missing]
    if result.short:
        parts.append("1 more member is missing" if result.short == 1 else f"{result.short} more members are missing")
    parts += [f"{shown(path)} is blocked on {named(member)}: {reason}" for member, path, reason in result.blocked]
    parts += [f"{named(member)}: {reason}" if member else reason for member, reason in result.behind]
    more = f", and {len(parts) - SHOWN_MAX} more" if len(parts) > SHOWN_MAX else ""
    return f"folder {name}: {', '.join(parts[:SHOWN_MAX])}{more}"
