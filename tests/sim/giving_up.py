"""An operator's `abandon`, where the only holder of a content is gone for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from replicad.core.effects import Effect
from replicad.core.ids import MemberId
from replicad.engine.abandoning import abandon_path
from replicad.engine.folder import FolderReplica
from tests.sim.member import SimMember


def give_up_what_is_lost(
    members: Sequence[SimMember], before: Callable[[SimMember], None] = lambda member: None
) -> bool:
    """What the only holder has lost with its catalog is given up; False where somebody has it.

    Where it is under another object's name it is not looked for, nor in a directory that was preserved as one: it stays
    there. `before`: told whose command it is, before it is given.
    """
    for member in members:
        for uid, path, why in member.running.installing.blocked():
            state = member.catalog.object(uid)
            content = state.record.content if state is not None else None
            if "no connected member" not in why or content is None:
                continue
            wanted = (uid, content.digest, 0, content.size)
            if any(one.content.read_range(*wanted) is not None for one in members):
                continue
            before(member)
            _give_up(member, path, {one.id: one.name for one in members if one is not member})
            return True
    return False


def _give_up(member: SimMember, path: bytes, names: Mapping[MemberId, str]) -> None:
    def act(replica: FolderReplica, now_ms: int) -> list[Effect]:
        return abandon_path(replica, path, names, {}, force=True, now_ms=now_ms)[1]

    member.act(act)
