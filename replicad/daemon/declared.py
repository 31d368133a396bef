"""What a configuration declares, brought about: this member's entry, its folders, and those that were taken out."""

from __future__ import annotations

from collections.abc import Sequence

from replicad.config.settings import DeclaredFolder
from replicad.config.written import KeptFolder
from replicad.core.effects import Effect
from replicad.core.hierarchy_entries import folder_member_key
from replicad.core.naming import GroupId, folder_id
from replicad.net.identity import Identity
from replicad.ops.keeper import Keeper


def kept_as_declared(
    declared: Sequence[DeclaredFolder], kept: Sequence[KeptFolder]
) -> tuple[list[KeptFolder], list[KeptFolder]]:
    """folders.toml as it has to be, and the folders that were declared and are no more: these are detached."""
    before = {one.name: one for one in kept}
    names = {folder.name for folder in declared}
    stay = [one for one in kept if not one.declared and one.name not in names]
    out = [one for one in kept if one.declared and one.name not in names]
    for folder in declared:
        old = before.get(folder.name)
        begun = old is not None and old.begun
        stay.append(KeptFolder(folder.name, folder.path, declared=True, begun=begun, settings=folder.settings))
    return stay, out


def declare(
    keeper: Keeper,
    identity: Identity,
    group: GroupId,
    name: str,
    addresses: Sequence[str],
    folders: Sequence[DeclaredFolder],
    detached: Sequence[KeptFolder],
    now_ms: int,
) -> list[Effect]:
    """Written where it differs from what was declared last. Raises OperatorError where the group has removed us."""
    hierarchy = keeper.hierarchy
    effects = hierarchy.declare_member(name, identity.certificate_der, addresses, now_ms)
    effects += keeper.bind(now_ms)
    for folder in folders:
        effects += hierarchy.declare_folder(folder.name, now_ms)[1]
        if folder.conflicts is not None:
            effects += hierarchy.declare_conflicts(folder.name, folder.conflicts, now_ms)
    for one in detached:
        key = folder_member_key(folder_id(group, one.name), identity.member_id)
        effects += hierarchy.declare([(key, None)], now_ms)
    return effects
