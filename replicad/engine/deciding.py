"""An operator's word on what is held (engine.holds), on the folder's thread."""

from __future__ import annotations

from replicad.engine.folder import FolderReplica
from replicad.engine.holds import ROOT
from replicad.engine.phases import PRIMARY, Phase, phase_changes
from replicad.engine.root_watch import NOTHING_THERE
from replicad.errors import OperatorError


def decide(replica: FolderReplica, *, approve: bool, now_ms: int) -> None:
    """Committed when it returns; the caller starts the folder anew. Raises OperatorError where nothing is held."""
    replica.root.look_again()
    hold = replica.hold
    if hold is None:
        raise OperatorError("nothing waits for a decision in this folder: see `replicad hold list`")
    if hold.kind == ROOT:
        if approve and hold.looked_for and replica.root.is_empty():
            raise OperatorError(NOTHING_THERE)
        replica.root.accept(now_ms)
    replica.root.deletions.let_go(now_ms, approved=approve)
    if not approve:
        learns = replica.phase in (Phase.COMPARING, Phase.LEARNING)  # and claims nothing yet
        silenced = replica.course.rejoining.ending() if replica.course.why == PRIMARY else []
        changes = [*(phase_changes(Phase.FORGETTING) if not learns else ()), *silenced]
        replica.catalog.commit(None, changes, now_ms=now_ms)
