"""What an exchange keeps in the catalog beside the records: how far each peer was read, and what each member last said.

A row moved by R3 is stored with some later commit: until then the catalog has an older one, which is as true. Statuses
are kept so that after a start the backlog to members that are away is known; they need no transaction of their own for
each, and a status that says nothing new is not stored.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replicad.catalog.changes import Change, Peer, Series, SetMeta, SetPeer, SetSeries
from replicad.catalog.store import Catalog
from replicad.core.ids import MemberId, ReplicaId
from replicad.core.messages import MemberStatus
from replicad.core.series import Row
from replicad.core.settling import Settling
from replicad.core.status_board import Known, StatusBoard, Version, open_status
from replicad.engine.meeting import LIFE_META, new_life
from replicad.errors import CatalogDiskError, ProtocolError

KEEP_INTERVAL_MS = 10_000
"""What is waiting to be stored gets a commit of its own at most so often, and when a link goes."""
SESSION_META = "exchange.session"
"""The number of the last run."""


class Memory:
    """Of one exchange. Invariant: a row here is the stored one or a later one, and `_rows_waiting` names the later."""

    def __init__(self, catalog: Catalog, board: StatusBoard, now_ms: int) -> None:
        self._catalog = catalog
        self._board = board
        self._rows: dict[MemberId, dict[ReplicaId, Row]] = {}
        self._rows_waiting: dict[tuple[MemberId, ReplicaId], None] = {}
        self._members_waiting: dict[MemberId, None] = {}
        self._earlier: dict[MemberId, Version] = {}
        """By member that began anew in this run: its last status before that."""
        self._kept_ms = now_ms

    def begin_session(self, now_ms: int) -> int:
        """A number greater than that of any session before, also where the catalog was put back and the clock not."""
        kept = self._catalog.meta(SESSION_META)
        session = max(int(kept) + 1 if kept is not None else 1, now_ms)
        life = [] if self._catalog.meta(LIFE_META) is not None else [new_life(self._catalog, 0, now_ms)]
        self._catalog.commit(None, [SetMeta(SESSION_META, b"%d" % session), *life], now_ms=now_ms)
        return session

    def recall(self, settling: Settling, now_ms: int) -> None:
        """After a start: the statuses last heard; the series that stand before their heads (rule 7)."""
        for peer in self._catalog.peers():
            known = _read(peer)
            if known is not None:
                self._board.take(None, [known], now_ms)
            for row in self._catalog.series(peer.member):
                if row.position < row.head:
                    settling.unfinished(peer.member, row.replica, row.head, now_ms)

    # -- rows

    def meet(self, peer: MemberId, now_ms: int) -> None:
        """Go on from what is stored."""
        self._forget_waiting(peer)
        self._rows[peer] = {row.replica: Row(row.position, row.head) for row in self._catalog.series(peer)}
        if self._catalog.peer(peer) is None:
            # Before any row of it: `recall` finds the series of the peers that are listed.
            self._catalog.commit(None, [SetPeer(Peer(peer))], now_ms=now_ms)

    def part(self, peer: MemberId, now_ms: int) -> None:
        """The link is gone."""
        self._members_waiting[peer] = None
        self.keep(now_ms)
        self._forget_waiting(peer)
        del self._rows[peer]

    def _forget_waiting(self, peer: MemberId) -> None:
        self._rows_waiting = dict.fromkeys(row for row in self._rows_waiting if row[0] != peer)

    def row(self, peer: MemberId, replica: ReplicaId) -> Row:
        return self._rows[peer].get(replica, Row())

    def set_row(self, peer: MemberId, replica: ReplicaId, row: Row) -> None:
        if row != self.row(peer, replica):
            self._rows[peer][replica] = row
            self._rows_waiting[peer, replica] = None

    def row_changes(self, *more: tuple[MemberId, ReplicaId, Row]) -> list[Change]:
        """For a commit: the rows that wait, and then `more`; call `rows_stored` when it is done."""
        waiting = ((member, replica, self._rows[member][replica]) for member, replica in self._rows_waiting)
        return [
            SetSeries(Series(member, replica, row.position, row.head)) for member, replica, row in (*waiting, *more)
        ]

    def rows_stored(self) -> None:
        self._rows_waiting.clear()

    # -- what members said

    def said_something_new(self, member: MemberId) -> None:
        self._members_waiting[member] = None

    def begins_anew(self, member: MemberId) -> None:
        known = self._board.member(member)
        if known is not None:
            self._earlier[member] = known.version

    def of_this_life(self, member: MemberId) -> Known | None:
        """Its last status, if it has not begun anew since."""
        known = self._board.member(member)
        return None if known is None or known.version == self._earlier.get(member) else known

    def next_due_ms(self) -> int | None:
        return self._kept_ms + KEEP_INTERVAL_MS if self._rows_waiting or self._members_waiting else None

    def clock_set_back(self, back_ms: int) -> None:
        self._kept_ms -= back_ms

    def keep_if_due(self, now_ms: int) -> None:
        due_ms = self.next_due_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.keep(now_ms)

    def keep(self, now_ms: int) -> None:
        """Store all that waits. What the disk of the home refuses waits on: nothing rests on it, since a crash loses it
        as well. So a folder with nothing else to write goes on."""
        self._kept_ms = now_ms
        changes = [*self.row_changes(), *self._peer_changes(self._members_waiting)]
        try:
            if changes:
                self._catalog.commit(None, changes, now_ms=now_ms)
        except CatalogDiskError:
            return
        self._rows_waiting.clear()
        self._members_waiting.clear()

    def _peer_changes(self, members: Iterable[MemberId]) -> Iterable[Change]:
        for member in members:
            kept = self._catalog.peer(member) or Peer(member)
            known = self.of_this_life(member)
            if known is not None:
                seen_ms = known.received_ms if known.direct else kept.last_seen_ms
                status = msgspec.msgpack.encode(known.status)
                kept = msgspec.structs.replace(kept, status=status, last_seen_ms=seen_ms)
            yield SetPeer(kept)


def _read(peer: Peer) -> Known | None:
    """A status as kept; None where there is none, or another version wrote it: the member will soon send a new one."""
    if not peer.status:
        return None
    try:
        status = msgspec.msgpack.decode(peer.status, type=MemberStatus)
        return open_status(status, direct=False, received_ms=peer.last_seen_ms or 0)
    except (msgspec.MsgspecError, ProtocolError):
        return None
