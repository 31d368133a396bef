"""This member's own status (docs/PROTOCOL.md, sections 3 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.ids import MemberId
from replicad.core.messages import MemberStatus
from replicad.core.status_board import shortened, widened
from replicad.engine.exchange_link import OwnState


def shown_set(known: CNSet, serves: bool) -> CNSet:
    """What a status or status request shows of `known`: it may understate."""
    return shortened(known) if serves else EMPTY


def said(own: MemberStatus) -> MemberStatus:
    """A status without what differs from one to the next though nothing has happened."""
    return msgspec.structs.replace(own, serial=0, time_ms=0, oldest_ms=None, head=0)


class Speaker:
    """Of one exchange and session."""

    def __init__(self, catalog: Catalog, own: MemberId, own_state: Callable[[], OwnState], session: int) -> None:
        self._catalog = catalog
        self._own = own
        self._own_state = own_state
        self._session = session
        self._serial = 0

    def status(self, connected: Iterable[MemberId], now_ms: int) -> MemberStatus:
        """As it is now; the next serial."""
        catalog, state = self._catalog, self._own_state()
        known = shown_set(catalog.known, state.serves)
        whole = state.serves and known == catalog.known
        self._serial += 1
        return MemberStatus(
            member=bytes.fromhex(self._own),
            session=self._session,
            serial=self._serial,
            replica=catalog.replica,
            head=catalog.head if whole else 0,
            known=known.encode(),
            missing=widened(state.missing).encode(),
            not_wanted=widened(state.not_wanted).encode(),
            purged=state.purged.encode(),
            digest=catalog.digest.to_bytes(16, "big") if whole else b"",
            state=state.state,
            complete=state.complete,
            scanned=state.scanned,
            pending_files=state.pending_files,
            pending_bytes=state.pending_bytes,
            oldest_ms=state.oldest_ms,
            time_ms=now_ms,
            connected=[bytes.fromhex(peer) for peer in sorted(connected)],
        )
