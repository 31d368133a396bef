"""`replicad rejoin FOLDER [--primary]`: an operator has the folder begin anew on this member, on the folder's thread.

What is known of the disk is forgotten and what others know is learned again. Then the disk claims nothing (rule 11:
what equals the tree is kept, the rest goes to PreExisting); or, as *primary*, it speaks: what differs from the tree is
a change made here, what is not there is deleted on every member.
"""

from __future__ import annotations

from replicad.core.ids import ReplicaId
from replicad.engine.folder import FolderReplica
from replicad.engine.folder_root import evidence
from replicad.engine.phases import ASKED, PRIMARY, Phase
from replicad.errors import OperatorError


def rejoin(replica: FolderReplica, new_replica: ReplicaId, *, primary: bool, force: bool, now_ms: int) -> None:
    """Committed when it returns; the caller starts the folder anew. Raises OperatorError where it makes no sense."""
    reason = _hindrance(replica) or (_of_primary(replica, force) if primary else _of_learner(replica))
    if reason:
        raise OperatorError(reason)
    replica.course.rejoining.ask(PRIMARY if primary else ASKED, new_replica, now_ms)


def _hindrance(replica: FolderReplica) -> str:
    """Why nothing can be asked of the folder now; empty: it can."""
    if replica.root.fault:
        return f"the folder cannot be used: {replica.root.fault}"
    if replica.phase is Phase.FOUNDING:
        return "the folder is in its first scan: there is nothing yet to begin anew"
    if replica.phase is Phase.COMPARING or replica.exchange.put_back:
        return "the folder is being compared with what others remember of it: try again when that is over"
    return ""


def _of_learner(replica: FolderReplica) -> str:
    if not replica.course.takes_part:
        return "the folder is joining or rejoining already: see `replicad status`"
    if not replica.exchange.any_complete():
        return "no member that has all of the folder is connected: there is nobody to learn from (or give --primary)"
    return ""


def _of_primary(replica: FolderReplica, force: bool) -> str:
    """An empty disk would empty the folder everywhere (I6)."""
    if force:
        return ""
    if not replica.course.takes_part:
        return "the folder is joining or rejoining: --force has this disk speak for it all the same"
    found = evidence(replica.catalog, replica.fs)
    if found.half:
        return ""
    told = f"{found.there} of {found.looked_for} entries that were looked for are at their paths"
    return f"only {told}: what is missing would be deleted on every member; --force does it"
