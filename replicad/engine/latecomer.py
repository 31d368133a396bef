"""A founder that comes too late (DESIGN section 3, rule 6): the folder was founded before it was in the hierarchy.

Members that are declared begin with originals before they have heard of anyone. Where they then hear that the founding
has ended, and who the founders were, one that is not among them goes by rule 11: what it has begun with is dropped, and
its disk claims nothing. Else what the others have deleted, and forgotten, would come back from its disk under CNs that
nobody has heard of.

That is so until it is settled that this member is one of them: an end of the founding is known here that counts it
among the founders, and others belong to the folder. So one that turns up later with an older end, because its clock was
wrong, does not have a whole group begin anew.
"""

from __future__ import annotations

from collections.abc import Callable

from replicad.catalog.changes import SetMeta
from replicad.catalog.store import Catalog
from replicad.core.collection import Circle
from replicad.core.ids import MemberId
from replicad.engine.phases import ORIGINALS_META

AGAIN_MS = 1_000
"""Between two looks at the hierarchy."""


class Latecomer:
    """Of one folder."""

    def __init__(self, catalog: Catalog, own: MemberId, circle: Callable[[], Circle | None]) -> None:
        self._catalog = catalog
        self._own = own
        self._circle = circle
        self._looked_ms: int | None = None
        self.unsettled = catalog.meta(ORIGINALS_META) is not None
        """It has begun with originals, and may be no founder."""

    def clock_set_back(self) -> None:
        self._looked_ms = None

    def look(self, now_ms: int, *, told: bool = False) -> bool:
        """Whether it came too late: then it is to begin anew, and that is settled. `told`: a peer knows that it did.
        Owns its transaction."""
        if not self.unsettled or (self._looked_ms is not None and now_ms < self._looked_ms + AGAIN_MS and not told):
            return False
        self._looked_ms = now_ms
        circle = self._circle()
        if circle is None or circle.founders is None:
            return False
        founds = circle.founds(self._own)
        late = not founds and not circle.alone  # where it is alone its disk speaks, whoever has founded the folder
        # Alone, and a founder: others may have founded it apart from this one, and before.
        if late or founds == (not circle.alone and circle.heard):
            self.unsettled = False
        if not late and not self.unsettled:
            self._catalog.commit(None, [SetMeta(ORIGINALS_META, None)], now_ms=now_ms)
        return late
