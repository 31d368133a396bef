"""What a member could not look at when its disk was held against what the group knows (rule 11; docs/safety.md, 5).

A place that is covered by a mount, that cannot be read, or from which nothing can be moved away, is kept here, in the
catalog, until it has been looked at (engine.late_claim). Until then nothing that lies there is taken for new: it may
have been deleted, and the deletion forgotten, long ago.

A place is a name in a directory of the disk, by the directory's node, wherever that is moved. With an empty name it is
all that lies beneath that directory and has no node.

What was made or written there since is its user's, and new. Told by the times of birth and of writing (`is_new`): a
mode that is changed so that a file can be read leaves both alone.
"""

from __future__ import annotations

import msgspec

from replicad.catalog.changes import Change, SetMeta
from replicad.catalog.store import Catalog
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, NodeId, View
from replicad.engine.scan_moves import Place
from replicad.files.fs import Stat

UNCLAIMED_META = "safety.unclaimed"
PLACES_MAX = 1_000
"""Kept one by one: 300 kB at the most, written anew with each that comes or goes. Where there are more, they are kept
as all that lies in their directory; and where that is still too many, as all that lies in the folder."""
HELD_BACK = (
    "it was here before this member joined or rejoined the folder, and could not be looked at or moved away then; "
    "it is held against what the group has as soon as that can be done"
)
AHEAD_MS = 60_000
"""By how much a disk's clock may be ahead of this member's. A time beyond that is of another clock, or was set."""
NS_PER_MS = 1_000_000

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[NodeId, bytes, int]])


def is_new(stat: Stat, since_ms: int, now_ms: int) -> bool:
    """Whether it was made, or written, after `since_ms`. Of a directory, which is written whenever something is moved
    out of it, only when it was made counts; where the disk does not tell that, it is taken for an old one."""
    since_ns, until_ns = since_ms * NS_PER_MS, (now_ms + AHEAD_MS) * NS_PER_MS
    times = (stat.birth_ns,) if stat.kind == DIRECTORY else (stat.birth_ns, stat.mtime_ns)
    return any(since_ns < time < until_ns for time in times)


class Unclaimed:
    """Of one folder. What is changed here is stored by whoever commits next, with `changes`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._places: dict[Place, int] = {}
        """With the time at which it could not be looked at."""
        self._whys: dict[Place, str] = {}
        """In words for `blocked`; as far as they were looked at since the start."""
        self._changed = False
        self.asked: dict[Place, None] = {}
        """To be looked at: something has shown that it can be, perhaps."""
        self.covered: set[Place] = set()
        """Of them those where another filesystem was mounted when they were looked at last."""
        self.epoch = 0
        """How often the disk was held against what the group knows since the start."""
        self.reload()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def reload(self) -> None:
        """As it is in the catalog."""
        blob = self._catalog.meta(UNCLAIMED_META)
        rows = _decoder.decode(blob) if blob is not None else []
        self._places = {(directory, name): since_ms for directory, name, since_ms in rows}
        self._changed = False
        self.ask_all()

    def begin(self) -> None:
        """The disk is held against what the group knows, from the beginning; or it speaks."""
        self._places.clear()
        self._whys.clear()
        self.asked.clear()
        self.covered.clear()
        self._changed = True
        self.epoch += 1

    def changes(self) -> list[Change]:
        """For the next commit."""
        if not self._changed:
            return []
        self._changed = False
        rows = [(directory, name, since_ms) for (directory, name), since_ms in self._places.items()]
        return [SetMeta(UNCLAIMED_META, _encoder.encode(rows) if rows else None)]

    def since_ms(self, place: Place) -> int:
        return self._places[place]

    def keep(self, place: Place, since_ms: int, why: str = "", *, covered: bool = False) -> Place:
        """It could not be looked at, or moved away. `covered`: since another filesystem is mounted there. Returns what
        stands for it from now on: the place itself, where there is room."""
        if place not in self._places and len(self._places) >= PLACES_MAX:
            place, since_ms = self._make_room(place[0], since_ms)
        elif covered:
            self.covered.add(place)
        if self._places.get(place) != since_ms:
            self._places[place] = since_ms
            self._changed = True
        self._whys[place] = why
        return place

    def drop(self, place: Place) -> None:
        """All that lay there has been looked at."""
        if self._places.pop(place, None) is not None:
            self._changed = True
        self._whys.pop(place, None)
        self.asked.pop(place, None)
        self.covered.discard(place)

    def ask_all(self) -> None:
        """Of each it is not known what has become of it."""
        self.asked = dict.fromkeys(self._places)

    def holds_back(self, view: View, place: Place, stat: Stat, now_ms: int) -> str:
        """Why what stands there, and has no node, is not to be taken for new; "" where it is. Then it is asked for."""
        found = self._around(view, place)
        if found is None or is_new(stat, self._places[found], now_ms):
            return ""
        self.asked[found] = None
        why = self._whys.get(place) or self._whys.get(found)
        return f"{HELD_BACK} ({why})" if why else HELD_BACK

    def _around(self, view: View, place: Place) -> Place | None:
        """The place that is kept, and in which this one lies."""
        if not self._places or place in self._places:
            return place if self._places else None
        at = place[0]
        while (at, b"") not in self._places:
            node = view.node(at)
            if at == ROOT_NODE or node is None:
                return None
            at = node.parent
        return at, b""

    def _make_room(self, directory: NodeId, since_ms: int) -> tuple[Place, int]:
        """What is to be kept instead of one more: the latest time stands for all, so that nothing old is new."""
        inside = [place for place in self._places if place[0] == directory]
        if not inside:
            directory, inside = ROOT_NODE, list(self._places)
        times = [self._places.pop(place) for place in inside]
        self._whys = {place: why for place, why in self._whys.items() if place in self._places}
        self.covered.difference_update(inside)
        return (directory, b""), max([since_ms, *times])
