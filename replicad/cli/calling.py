"""How a command is carried out: by the running daemon, or on the home itself while none runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from replicad.cli.client import follow
from replicad.cli.client import request as ask_daemon
from replicad.config.loading import Sources, find_home
from replicad.errors import NoDaemonError
from replicad.ops.home import HomeBusyError
from replicad.ops.requests import Request, as_json, route_of

BUSY_WAIT_S = 10.0
"""For another command to be done with the home, or a daemon that is starting to answer."""
BUSY_POLL_S = 0.05

Options = argparse.Namespace


def sources_of(options: Options) -> Sources:
    return Sources(os.environ, options.home, getattr(options, "config", None))


def home_of(options: Options) -> Path:
    return find_home(sources_of(options))


def call(options: Options, request: Request, *, timeout_s: float | None = None) -> dict[str, Any]:
    """The operation's result, wherever it is carried out.

    RACE: a daemon starts or ends between the question whether one answers and the taking of the lock: then the lock is
    held by it, or nobody answers any more, and both are tried again.
    """
    deadline = time.monotonic() + BUSY_WAIT_S
    while True:
        try:
            return call_daemon(options, request, timeout_s=timeout_s)
        except NoDaemonError:
            if route_of(request).daemon:
                raise
        try:
            return _call_home(options, request)
        except HomeBusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BUSY_POLL_S)


def call_daemon(options: Options, request: Request, *, timeout_s: float | None = None) -> dict[str, Any]:
    route, (path, body) = route_of(request), _placed(request)
    more = {} if timeout_s is None else {"timeout_s": timeout_s}
    result: dict[str, Any] = ask_daemon(home_of(options), route.method, path, body if body else None, **more)
    return result


def stream(options: Options, request: Request) -> Iterator[dict[str, Any]]:
    """The pieces of an answer that comes piece by piece. Raises NoDaemonError where no daemon runs."""
    path, body = _placed(request)
    yield from follow(home_of(options), path, route_of(request).method, body)


def _placed(request: Request) -> tuple[str, dict[str, Any]]:
    """The path, and what goes into the body."""
    route, body = route_of(request), as_json(request)
    path = route.path
    for field in route.fields_in_path():
        path = path.replace(f"{{{field}}}", quote(str(body.pop(field)), safe=""))
    if route.method == "GET":
        query = urlencode({field: value for field, value in body.items() if value is not None})
        path, body = f"{path}?{query}" if query else path, {}
    return path, body


def _call_home(options: Options, request: Request) -> dict[str, Any]:
    # Only now: these imports take longer than a daemon's answer.
    import asyncio

    from replicad.config.loading import load
    from replicad.daemon.clock import wall_ms
    from replicad.ops.home import create_home, locked
    from replicad.ops.office import OfflineOffice
    from replicad.ops.operations import OPERATIONS

    settings = load(sources_of(options))
    home = settings.member.home
    create_home(home)
    with locked(home, options.command):
        office = OfflineOffice(settings, wall_ms)
        try:
            return asyncio.run(OPERATIONS[type(request)](office, request))  # type: ignore[arg-type]
        finally:
            office.close()


def show(options: Options, result: dict[str, Any], text: str) -> int:
    """The result as JSON, or as `text`; exit status 0."""
    print(json.dumps(result, ensure_ascii=False) if options.json else text)
    return 0


def show_line(value: dict[str, Any]) -> None:
    """One object a line, at once."""
    print(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()
