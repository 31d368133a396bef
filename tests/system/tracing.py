"""A daemon that marks, in the trace of its system calls, what a trace cannot show: `python -m tests.system.tracing`.

A mark is a `readlink` of a path that does not exist, `/mark/` and JSON (tests/system/trace.py reads it; a path has no
more than 4,096 bytes). Marked are what a commit is about and what the catalog holds when it has returned, and what a
message to a peer claims, when the replica hands it over: it is sent after that, and encrypted.

It belongs to the tests; no product code is in it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from replicad.catalog.changes import AddIntents, ClearIntents
from replicad.catalog.store import Catalog
from replicad.cli.main import main
from replicad.core.draft import Draft
from replicad.core.messages import (
    ContentBackfill,
    ContentChange,
    HierarchyBackfill,
    HierarchyChange,
    Message,
    Status,
    set_of,
)
from replicad.daemon import driver
from replicad.engine.intents import decode_intent
from tests.system.trace import MARK


def mark(what: dict[str, Any]) -> None:
    with suppress(OSError):
        os.readlink(MARK + json.dumps(what))


def mark_commits() -> None:
    commit = Catalog.commit

    def marked(self: Catalog, draft: Draft | None, changes: Sequence[Any] = (), *, now_ms: int) -> int:
        intents = [decode_intent(row.blob) for one in changes if isinstance(one, AddIntents) for row in one.intents]
        for one in intents:
            paths = [os.fsdecode(path) for path in (one.source, one.target, one.aside) if path]
            mark({"at": "intent", "of": str(self._where), "paths": paths})
        own = draft is not None and draft.counter != self.counter
        clears = any(isinstance(one, ClearIntents) for one in changes)
        mark({"at": "commit", "of": str(self._where), "own": own, "clears": clears})
        head = commit(self, draft, changes, now_ms=now_ms)
        known = self.known
        installed = known.minus(self.not_installed())
        mark({"at": "committed", "of": str(self._where), "known": known.encode(), "installed": installed.encode()})
        return head

    Catalog.commit = marked  # type: ignore[method-assign]


def _mark_messages() -> None:
    encode = driver.encode_message

    def marked(message: Message) -> bytes:
        if isinstance(message, Status):
            known = set_of(message.own.known)
            installed = known.minus(set_of(message.own.missing))
            mark({"at": "told", "by": "status", "known": known.encode(), "installed": installed.encode()})
        elif isinstance(message, ContentBackfill | ContentChange | HierarchyBackfill | HierarchyChange):
            mark({"at": "told", "by": "page", "known": set_of(message.known).encode(), "installed": []})
        return encode(message)

    driver.encode_message = marked  # type: ignore[attr-defined]


if __name__ == "__main__":
    mark_commits()
    _mark_messages()
    sys.exit(main())
