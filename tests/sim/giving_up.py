"""An operator's `abandon`, where the only holder of a content is gone for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blake3 import blake3

from replicad.core.effects import Effect
from replicad.core.ids import MemberId
from replicad.engine.abandoning import abandon_path
from replicad.engine.folder import FolderReplica
from tests.sim.group import files
from tests.sim.member import SimMember


def give_up_what_is_lost(members: Sequence[SimMember]) -> bool:
    """What the only holder has lost with its catalog is given up; False where somebody has it.

    Files of a directory that was preserved as one are not looked through for what is wanted: it stays there. Nor is a
    file of the tree that is another object: it is not looked at for what is wanted.
    """
    stores = (b".replicad/ConflictAndDeleted/", b".replicad/PreExisting/")
    every = [item for one in members for item in files(one, private=True).items()]
    there = {
        blake3(data).digest()
        for path, data in every
        if any(path.startswith(store) and b"/" not in path[len(store) :] for store in stores)
    }
    for member in members:
        states = member.catalog.objects(member.catalog.pending(1_000))
        wanted = {state.record.content.digest for state in states if state.record.content is not None}
        paths = [path for path, why in member.running.blocked() if "no connected member" in why]
        held = (one.catalog.object(state.record.uid) for one in members for state in states)
        installed = any(one is not None and one.node is not None and not one.pending for one in held)
        if paths and wanted and not wanted & there and not installed:
            _give_up(member, paths[0], {one.id: one.name for one in members if one is not member})
            return True
    return False


def _give_up(member: SimMember, path: bytes, names: Mapping[MemberId, str]) -> None:
    def act(replica: FolderReplica, now_ms: int) -> list[Effect]:
        return abandon_path(replica, path, names, {}, force=True, now_ms=now_ms)[1]

    member.act(act)
