"""The order of a daemon's system calls, as strace saw them, held against docs/durability.md.

A call has two lines in a trace that several threads write to: where it begins and where it is done. One thing is before
another if it was done before the other began. A sync covers what was done before the sync began.

1. What an intent names in staging is synced, data and entry, before the commit of the intent.
2. Nothing in the tree is changed but by an intent that was committed before.
3. No commit while something that was changed in the tree is not synced.
4. A commit that makes CNs of this member's own comes after a sync that began after the last look into a file.
5. When a commit returns, all that was written to its log is synced.
6. A message claims only what a commit has stored that has returned.
"""

from __future__ import annotations

import json
import os.path
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "/mark/"
CALLS = (
    "openat", "write", "pwrite64", "ftruncate", "pread64", "fsync", "fdatasync", "syncfs", "renameat2", "mkdirat",
    "symlinkat", "unlinkat", "fchmod", "fchmodat", "fchmodat2", "utimensat", "readlink", "readlinkat",
)  # fmt: skip
PRIVATE = ".replicad"


def tracer(output: Path) -> list[str]:
    """What a command is run under; it stays the process that was started."""
    wanted = ",".join(f"?{call}" for call in CALLS)
    strace = ["strace", "-D", "-f", "-y", "-qq", "-s", "16", "--seccomp-bpf"]
    return [*strace, "-o", str(output), "-e", f"trace={wanted}"]


_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$", re.DOTALL)
_STRING = r'"((?:[^"\\]|\\.)*)"'
_IN = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>, " + _STRING)
_OPEN = re.compile(r"(\d+)<([^>]*)>")
_FIRST_STRING = re.compile(_STRING)
_ESCAPED = re.compile(r"\\(.)")
_UNFINISHED = " <unfinished ...>"

Sets = dict[int, list[tuple[int, int]]]
"""CNs: for each replica id (first, last)."""


@dataclass
class Call:
    thread: int
    name: str
    arguments: str
    failed: bool = False
    begin: int = 0

    @property
    def places(self) -> list[str]:
        """The paths that it names: by a directory and a name, or by something open."""
        if self.name.endswith(("at", "at2")) and _IN.search(self.arguments):
            return [os.path.normpath(os.path.join(above, name)) for above, name in _IN.findall(self.arguments)]
        found = _OPEN.match(self.arguments)
        return [found[2].removesuffix(" (deleted)")] if found else []


def calls(lines: Iterable[str]) -> Iterator[tuple[bool, int, Call]]:
    """(done, line, call): each call twice, where it begins and where it is done, but for those that never were."""
    waiting: dict[int, Call] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        thread, resumed, rest = int(match[1]), match[2], match[3]
        if resumed:
            if (call := waiting.pop(thread, None)) is not None:
                call.arguments += rest
                call.failed = ") = -1" in rest or " = -1 " in rest
                yield True, number, call
            continue
        name, bracket, arguments = rest.partition("(")
        if not bracket or name not in CALLS:
            continue
        call = Call(thread, name, arguments, begin=number)
        if arguments.endswith(_UNFINISHED):
            call.arguments = arguments.removesuffix(_UNFINISHED)
            waiting[thread] = call
            yield False, number, call
        else:
            call.failed = re.search(r"\) += -1 ", arguments) is not None
            yield False, number, call
            yield True, number, call


@dataclass
class Order:
    """`check` a trace of a daemon whose folder is at `root`."""

    root: str
    findings: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    """How often each rule had something to say, so that an empty trace shows."""
    _written: dict[str, int] = field(default_factory=dict)
    _entries: dict[str, int] = field(default_factory=dict)
    """In staging: data, and names, that are not synced, and since which line."""
    _tree: dict[str, int] = field(default_factory=dict)
    """Changes of the tree that are not synced."""
    _logs: dict[str, int] = field(default_factory=dict)
    _intended: set[str] = field(default_factory=set)
    _committing: dict[str, set[str]] = field(default_factory=dict)
    _looked: dict[int, int] = field(default_factory=dict)
    _synced: dict[int, int] = field(default_factory=dict)
    """By thread: where it last looked into a file of the tree; where its last sync that succeeded began."""
    _committed: dict[int, int] = field(default_factory=dict)
    _stored: dict[str, dict[str, Sets]] = field(default_factory=dict)

    def check(self, lines: Iterable[str]) -> list[str]:
        for done, number, call in calls(lines):
            if done and not call.failed:
                self._done(number, call)
            elif not done and call.name.startswith("readlink"):
                self._mark(number, call)
            elif not done:
                self._begins(number, call)
        return self.findings

    # -- where it lies

    def _in_tree(self, path: str) -> bool:
        inside = path.startswith(self.root + "/")
        return inside and not path.startswith(f"{self.root}/{PRIVATE}")

    def _in_staging(self, path: str) -> bool:
        return path.startswith(f"{self.root}/{PRIVATE}/staging/")

    def _changes(self, call: Call) -> list[str]:
        """Paths in the tree that this call changes."""
        changing = ("renameat2", "mkdirat", "symlinkat", "unlinkat", "fchmod", "fchmodat", "fchmodat2", "utimensat")
        writes = call.name in ("write", "pwrite64", "ftruncate") or (
            call.name == "openat" and "O_CREAT" in call.arguments
        )
        return [path for path in call.places if self._in_tree(path)] if call.name in changing or writes else []

    # -- what happens

    def _begins(self, number: int, call: Call) -> None:
        for path in self._changes(call):
            self.seen["changes of the tree"] += 1
            if path not in self._intended:
                self._find(number, f"{call.name} of {path}, of which no committed intent speaks")

    def _done(self, number: int, call: Call) -> None:
        paths = call.places
        if call.name in ("fsync", "fdatasync", "syncfs"):
            self.seen["syncs in the folder"] += (paths[0] + "/").startswith(self.root + "/")
            self._sync(call, paths[0])
            return
        self._tree.update(dict.fromkeys(self._changes(call), number))
        if call.name == "renameat2":
            self._renamed(*paths)
        elif call.name == "pread64" and self._in_tree(paths[0]):
            self._looked[call.thread] = number
        elif call.name in ("write", "pwrite64", "ftruncate"):
            if paths and paths[0].endswith("-wal"):
                self._logs[paths[0]] = number
            elif paths and self._in_staging(paths[0]):
                self._written[paths[0]] = number
        elif call.name in ("mkdirat", "symlinkat") or (call.name == "openat" and "O_CREAT" in call.arguments):
            self._entries.update((path, number) for path in paths if self._in_staging(path))
        elif call.name == "unlinkat":
            for path in paths:
                self._written.pop(path, None)
                self._entries.pop(path, None)

    def _renamed(self, source: str, target: str) -> None:
        for dirty in (self._written, self._entries):
            number = dirty.pop(source, None)
            if number is not None and self._in_staging(target):
                dirty[target] = number

    def _sync(self, call: Call, path: str) -> None:
        """It covers what was done before it began."""

        def rest(dirty: dict[str, int], covered: Any) -> dict[str, int]:
            return {one: line for one, line in dirty.items() if line > call.begin or not covered(one)}

        if call.name == "syncfs" and (path + "/").startswith(self.root + "/"):
            self._written, self._entries, self._tree = (
                rest(dirty, lambda one: True) for dirty in (self._written, self._entries, self._tree)
            )
            self._synced[call.thread] = call.begin
        elif call.name != "syncfs":
            self._written = rest(self._written, lambda one: one == path)
            self._entries = rest(self._entries, lambda one: os.path.dirname(one) == path)
            self._logs = rest(self._logs, lambda one: one == path)

    # -- what the daemon marks

    def _mark(self, number: int, call: Call) -> None:
        found = _FIRST_STRING.search(call.arguments)
        if found is None or not found[1].startswith(MARK):
            return
        mark = json.loads(_ESCAPED.sub(r"\1", found[1].removeprefix(MARK)))
        told = {"intent": self._intent, "commit": self._commit, "committed": self._returned, "told": self._told}
        told[mark["at"]](number, call, mark)

    def _intent(self, number: int, call: Call, mark: dict[str, Any]) -> None:
        """The commit that it is a part of is about to begin."""
        self.seen["intents"] += 1
        intended = {os.path.join(self.root, path) for path in mark["paths"]}
        self._committing.setdefault(mark["of"], set()).update(intended)
        for path in intended:
            if path in self._written or path in self._entries:
                self._find(number, f"an intent before {path} is synced")

    def _commit(self, number: int, call: Call, mark: dict[str, Any]) -> None:
        if "hierarchy" in mark["of"]:
            return
        for path in self._tree:
            self._find(number, f"a commit before what was done to {path} is synced")
        self.seen["batches entered"] += mark["clears"]
        if mark["own"]:
            self.seen["changes of its own"] += 1
            synced, looked = self._synced.get(call.thread, -1), self._looked.get(call.thread, -1)
            if synced < max(looked, self._committed.get(call.thread, -1)):
                self._find(number, "a commit of changes of its own that are not synced")

    def _returned(self, number: int, call: Call, mark: dict[str, Any]) -> None:
        if mark["of"] + "-wal" in self._logs:
            self._find(number, f"a commit returns before the log of {mark['of']} is synced")
        self._intended |= self._committing.pop(mark["of"], set())
        self._stored[mark["of"]] = {name: _sets(mark[name]) for name in ("known", "installed")}
        self._committed[call.thread] = number

    def _told(self, number: int, call: Call, mark: dict[str, Any]) -> None:
        self.seen[f"told by {mark['by']}"] += 1
        for name in ("known", "installed"):
            claimed = _sets(mark[name])
            for replica, spans in claimed.items():
                stored = [span for one in self._stored.values() for span in one[name].get(replica, ())]
                if not all(any(first <= begin and end <= last for first, last in stored) for begin, end in spans):
                    self._find(number, f"{mark['by']} claims as {name} what no commit has stored: {replica} {spans}")

    def _find(self, number: int, what: str) -> None:
        self.findings.append(f"line {number + 1}: {what}")


def _sets(rows: list[list[int]]) -> Sets:
    return {row[0]: list(zip(row[1::2], row[2::2], strict=True)) for row in rows}
