"""`replicad abandon PATH`, on the folder's thread: which versions nobody has, and giving them up (core.abandon).

A version is given up only where no other member of the folder that is not removed has shown, by its last status, that
it has it installed: such a member may come back. `force` gives it up all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from replicad.core.abandon import abandon, lacks_content, missing_below
from replicad.core.cnset import EMPTY
from replicad.core.draft import Draft
from replicad.core.effects import Changed, Effect, Report
from replicad.core.ids import ROOT, Cn, MemberId, ReplicaId, Uid
from replicad.core.tree import Slot, outcome
from replicad.core.tree_places import rep
from replicad.engine.folder import FolderReplica
from replicad.errors import OperatorError
from replicad.files.paths import split

ABANDONED_MAX = 10_000
"""Files given up by one command: bounds its transaction. What is left is given up by the next."""


class Abandoned(msgspec.Struct, frozen=True):
    """How many files were kept as they are on this member's disk, and how many are gone; `more`: run it again."""

    kept: int
    gone: int
    more: bool


class HeldElsewhereError(OperatorError):
    """Another member has shown that it has the version."""


def abandon_path(
    replica: FolderReplica,
    path: bytes,
    names: Mapping[MemberId, str],
    owners: Mapping[ReplicaId, MemberId],
    *,
    force: bool,
    now_ms: int,
) -> tuple[Abandoned, list[Effect]]:
    """Committed when it returns. `names`: the other members of the folder; `owners`: whose replica ids are known.

    Raises OperatorError.
    """
    if replica.state.reason:
        raise OperatorError(f"the folder is not at work, so nothing can be given up: {replica.state.reason}")
    catalog = replica.catalog
    top = _slot_of_path(replica, path)
    found = dict.fromkeys(uid for _, (_, uid) in zip(range(ABANDONED_MAX), missing_below(catalog, top), strict=False))
    if not found:
        raise OperatorError("nothing there waits for a content: there is nothing to give up")
    if not force:
        _check_nobody_has(replica, found, names, owners)
    draft = Draft(catalog)
    author, kept, gone = abandon(draft, found, now_ms)
    slots, touched = author.touched()
    replica.commit_own(draft, slots, touched, now_ms)
    report = Report(0, f"an operator has given up versions: {kept} files are as they are here, {gone} are gone", path)
    return Abandoned(kept, gone, len(found) == ABANDONED_MAX), [
        report,
        Changed(),
        *replica.exchange.after_commit(now_ms),
    ]


def _slot_of_path(replica: FolderReplica, path: bytes) -> Slot:
    """Where the group wants something at this path. Raises OperatorError."""
    if not path:
        raise OperatorError("give a file or directory in the folder, not the folder itself")
    catalog, directory = replica.catalog, ROOT
    above, name = split(path)
    for part in above.split(b"/") if above else ():
        found = outcome(catalog, Slot(directory, part))
        if found is None:
            raise OperatorError("the group knows nothing at this path: see the paths in `replicad status`")
        directory = rep(catalog, found.lead)
    slot = Slot(directory, name)
    if outcome(catalog, slot) is None:
        raise OperatorError("the group knows nothing at this path: see the paths in `replicad status`")
    return slot


def _check_nobody_has(
    replica: FolderReplica,
    uids: Collection[Uid],
    names: Mapping[MemberId, str],
    owners: Mapping[ReplicaId, MemberId],
) -> None:
    wanted: list[Cn] = []
    for state in replica.catalog.objects(uids):
        content = state.record.content
        if lacks_content(state) and content is not None:
            wanted.append(content.cn)
    statuses = replica.exchange.statuses()
    for member in sorted(names):
        known = statuses.get(member)
        installed, missing = (known.installed, known.missing) if known is not None else (EMPTY, EMPTY)
        # Who wrote it had it, though it may have had no time to say so.
        have = sum(1 for cn in wanted if cn in installed or (owners.get(cn.replica) == member and cn not in missing))
        if have:
            raise HeldElsewhereError(
                f"{names[member]} has told that it has {have} of {len(wanted)} files: bring it back, or remove it with"
                f" `replicad member remove {names[member]}` if it is gone for good, or give --force"
            )
