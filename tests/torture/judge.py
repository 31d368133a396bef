"""The end: all trees are one, nothing is lost, nothing came back, nobody shows what was never written.

It reads disks with the standard library alone. What it finds is a list of findings, each a line with the history of the
contents and paths concerned; an empty list is all that one wants to see.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.contents import FILE, SYMLINK, key_of
from tests.torture.ledger import Ledger
from tests.tree_compare import differences, read_tree

STORES = ("ConflictAndDeleted", "PreExisting")
FINDINGS_MAX = 8
"""Of each promise; a person reads no more."""


@dataclass
class Found:
    """What lies on all disks: by content's key, where."""

    live: dict[str, str] = field(default_factory=dict)
    preserved: dict[str, str] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    """Not kept by anybody, or not yet: what came out of a tree lies there until it is quiet."""
    strange: list[str] = field(default_factory=list)

    def missing(self, ledger: Ledger) -> set[str]:
        """Contents that no user took off, and that are nowhere."""
        return ledger.written.keys() - ledger.taken_off.keys() - self.live.keys() - self.preserved.keys()


def read_disks(roots: Mapping[str, Path], ledger: Ledger) -> Found:
    found = Found()
    for name, root in roots.items():
        for path, kind, data in _contents(root, skip=".replicad"):
            found.live.setdefault(key_of(kind, data), f"{name} {path}")
            _check_known(found, ledger, f"{name} {path}", kind, data)
        for store in STORES:
            for path, kind, data in _contents(root / ".replicad" / store):
                found.preserved.setdefault(key_of(kind, data), f"{name} {store} {path}")
                _check_known(found, ledger, f"{name} {store} {path}", kind, data)
        for path, kind, data in _contents(root / ".replicad" / "staging"):
            found.staged.setdefault(key_of(kind, data), f"{name} staging {path}")
    return found


def trees_differ(roots: Mapping[str, Path], ledger: Ledger) -> list[str]:
    """I1."""
    first, *others = roots
    tree = read_tree(roots[first])
    findings = []
    for other in others:
        theirs = read_tree(roots[other])
        lines = differences(tree, theirs)
        paths = {path for path in tree.keys() | theirs.keys() if tree.get(path) != theirs.get(path)}
        if lines:
            shown = [f"I1: {first} and {other} differ in {len(lines)} names:", *lines[:FINDINGS_MAX]]
            keys = {str(one[path].content) for one in (tree, theirs) for path in paths if path in one}
            findings.append("\n  ".join([*shown, "history:", *ledger.about(keys=keys, paths=paths)]))
    return findings


def lost(found: Found, ledger: Ledger) -> list[str]:
    """I3. As many as there were acts of which cannot be told what they took off prove nothing."""
    missing = sorted(found.missing(ledger))
    if len(missing) <= len(ledger.untold):
        return []
    findings = [f"I3: {len(missing)} contents are nowhere; {len(ledger.untold)} acts took off what cannot be told"]
    for key in missing[:FINDINGS_MAX]:
        staged = f", but in {found.staged[key]}" if key in found.staged else ""
        findings.append(_with_history(f"I3: {key[:12]} is lost{staged}: {ledger.written[key]}", key, ledger))
    return findings


def came_back(found: Found, ledger: Ledger) -> list[str]:
    """I7."""
    back = sorted((ledger.condemned.keys() & found.live.keys()) - ledger.affirmed - ledger.copied)
    return [
        _with_history(f"I7: {key[:12]} is at {found.live[key]}, taken off on {ledger.condemned[key]}", key, ledger)
        for key in back[:FINDINGS_MAX]
    ]


def never_written(found: Found, ledger: Ledger) -> list[str]:
    """I4: whole files only."""
    return [f"I4: nobody wrote this: {line}" for line in [*ledger.strange, *found.strange][:FINDINGS_MAX]]


def _check_known(found: Found, ledger: Ledger, where: str, kind: str, data: bytes) -> None:
    if not ledger.is_known(kind, data):
        found.strange.append(f"{where}: {len(data)} bytes, {data[:80]!r}")


def _with_history(line: str, key: str, ledger: Ledger) -> str:
    return "\n  ".join([line, "history:", *ledger.about(keys={key})])


def _contents(root: Path, skip: str = "") -> Iterable[tuple[str, str, bytes]]:
    for place, directories, names in os.walk(root):
        if place == str(root):
            directories[:] = [name for name in directories if name != skip]
        for name in (*names, *directories):
            path = os.path.join(place, name)
            shown = os.path.relpath(path, root)
            if os.path.islink(path):
                yield shown, SYMLINK, os.fsencode(os.readlink(path))
            elif os.path.isfile(path):
                yield shown, FILE, Path(path).read_bytes()
