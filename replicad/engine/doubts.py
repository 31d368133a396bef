"""Whether this catalog is what peers remember of it (I5; docs/PROTOCOL.md, section 7)."""

from __future__ import annotations

from replicad.catalog.store import Catalog
from replicad.core.cnset import CNSet
from replicad.core.effects import Effect, Report
from replicad.core.ids import MemberId, ReplicaId


class Doubts:
    """Of one exchange."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
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
