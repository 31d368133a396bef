"""`wait` in simulated groups: whenever one says that it is done, what it promises is looked at, in that very moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from replicad.core.effects import Effect
from replicad.engine.folder import FolderReplica
from replicad.files.fs import FILE
from tests.sim.memory_tree import ROOT_MOUNT

if TYPE_CHECKING:
    from tests.sim.group import Group
    from tests.sim.member import SimMember

TIMEOUT_MS = 120_000


@dataclass
class _Waiting:
    member: SimMember
    life: int
    ticket: int
    began_ms: int


class Waits:
    """The waits of one group."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._waiting: list[_Waiting] = []
        self.done = 0
        group.on_handled = self.look

    def begin(self, member: SimMember) -> None:
        everybody = frozenset(one.id for one in self._group.members.values())
        ticket = 0

        def start(replica: FolderReplica, now_ms: int) -> list[Effect]:
            nonlocal ticket
            assert replica.fences is not None
            ticket, effects = replica.fences.start(everybody, TIMEOUT_MS, now_ms)
            return effects

        life = member.life
        began_ms = self._group.clock.now_ms
        member.act(start)
        if member.life == life:
            self._waiting.append(_Waiting(member, life, ticket, began_ms))
            self.look(member)

    def end(self) -> None:
        """Nobody waits for them any more."""
        for one in self._waiting:
            if one.life == one.member.life and one.member.replica is not None:
                fences = one.member.running.fences
                assert fences is not None
                fences.cancel(one.ticket)
                one.member.forget_due()
        self._waiting.clear()

    def look(self, member: SimMember) -> None:
        """After each event that the member has handled."""
        for one in [one for one in self._waiting if one.member is member]:
            if one.life != member.life or member.replica is None:
                self._waiting.remove(one)
                continue
            fences = member.running.fences
            assert fences is not None
            result = fences.result(one.ticket)
            if result is None:
                continue
            self._waiting.remove(one)
            fences.cancel(one.ticket)
            member.forget_due()
            self._group.counts[f"wait ended with {result.exit_status}"] += 1
            if result.done:
                self.done += 1
                there = {one.id for one in self._group.members.values()} - self._group.twinned
                reached = [self._group.by_id[id_] for id_ in result.members if id_ in there]
                self._check_looked(one, reached)
                self._check_installed(one, reached)

    def _check_installed(self, one: _Waiting, reached: list[SimMember]) -> None:
        """What any of them had made by then is on the disk of each, or was, or something newer."""
        names = {member.name for member in reached}
        for cn, made in self._group.ledger.made.items():
            if made.member not in names or made.at_ms > one.began_ms or self._group.ledger.is_lost(self._group, cn):
                continue
            for member in reached:
                shown = self._group.ledger.shown(member, made)
                assert shown, f"a wait of {one.member.name} is over, and {member.name} never showed {cn} ({made})"

    def _check_looked(self, one: _Waiting, reached: list[SimMember]) -> None:
        """What was on a disk when it began has been read there."""
        for member in reached:
            if member.replica is None:
                continue
            began_ns = (one.began_ms + member.offset_ms) * 1_000_000
            blocked = {path for path, _ in member.running.blocked()}
            seen = self._group.ledger.disk(member).seen | self._group.ledger.untold
            for path, (stat, data) in member.fs.read_tree().items():
                mine = stat.mount == ROOT_MOUNT  # what is mounted within is not the folder's; nobody is told of it here
                if stat.kind == FILE and mine and stat.ctime_ns < began_ns and not _is_within(path, blocked):
                    assert blake3(data).digest() in seen, (
                        f"a wait of {one.member.name} is over, and {member.name} has not read {path!r}: {data[:40]!r}"
                    )


def _is_within(path: bytes, blocked: set[bytes]) -> bool:
    """Whether it is blocked, or lies beneath what is: in another mount, say."""
    while path and path not in blocked:
        path = path.rpartition(b"/")[0]
    return path in blocked
