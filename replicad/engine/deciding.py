"""An operator's word on what is held (engine.holds), on the folder's thread."""

from __future__ import annotations

from replicad.engine.folder import FolderReplica
from replicad.engine.holds import ROOT
from replicad.engine.phases import Phase, phase_changes
from replicad.errors import OperatorError


def decide(replica: FolderReplica, *, approve: bool, now_ms: int) -> None:
    """Committed when it returns; the caller starts the folder anew. Raises OperatorError where nothing is held."""
    hold = replica.hold
    if hold is None:
        raise OperatorError("nothing waits for a decision in this folder: see `replicad hold list`")
    if hold.kind == ROOT:
        replica.root.accept(now_ms)
    replica.root.deletions.let_go(now_ms, approved=approve)
    if not approve and replica.phase not in (Phase.COMPARING, Phase.LEARNING):  # one who learns claims nothing yet
        replica.catalog.commit(None, phase_changes(Phase.FORGETTING), now_ms=now_ms)
