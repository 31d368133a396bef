"""Whether this catalog, or the group, is what it should be: put back (I5), and the digest (docs/PROTOCOL.md, 7)."""

from __future__ import annotations

from collections.abc import Callable

from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.effects import Effect, Report
from replicad.core.ids import MemberId, ReplicaId
from replicad.core.status_board import Known
from replicad.engine.exchange_link import Link


class Doubts:
    """Of one exchange."""

    def __init__(self, catalog: Catalog, purged: Callable[[], CNSet]) -> None:
        self._catalog = catalog
        self._purged = purged
        self._replica: ReplicaId | None = None

    @property
    def put_back(self) -> bool:
        """Until the replica id is renewed."""
        return self._replica == self._catalog.replica

    def find(self, text: str, out: list[Effect]) -> None:
        """This catalog was put back: `text` says how that is known."""
        if not self.put_back:
            self._replica = self._catalog.replica
            out.append(Report(0, text))

    def beyond(self, peer: MemberId, known: CNSet, out: list[Effect]) -> bool:
        """Whether `known`, which the peer shows, holds changes of this catalog's that it never made."""
        ahead = known.last(self._catalog.replica) > self._catalog.counter
        if ahead:
            self.find(f"{peer} knows changes of this member that its catalog does not have: it was put back", out)
        return ahead

    def compare(self, link: Link, own: Known, out: list[Effect]) -> None:
        """A peer's status: equal sets and unequal digests prove a fault."""
        ours = self._catalog.digest.to_bytes(16, "big")
        if own.status.digest == ours or own.known != self._catalog.known:
            return
        if own.purged == self._purged() and link.report_once(ours, own.status.digest):
            out.append(Report(0, f"this member and {own.member} know the same changes and hold different records"))
