"""The tree computed whole, straight from DESIGN section 3: the oracle for the incremental one (core.tree).

Deliberately another way to the same end: it sees records only, cuts all cycles round by round, looks for what keeps a
directory from below, and walks down from the root with sets of UIDs, so that nothing has to be kept up by differences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from replicad.core.ids import ROOT, Uid
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Record, usable, usable_name
from replicad.core.tree import Outcome
from replicad.core.tree_siblings import sibling_name

Places = dict[Uid, tuple[Uid, bytes]]


def full_tree(records: Iterable[Record], *, siblings: bool = False) -> dict[bytes, Outcome]:
    """What `tree_of` must give for these records (one for each object). `siblings`: the folder's policy."""
    held = {record.uid: record for record in records}
    places = cut_places(held)
    shown = {uid for uid, record in held.items() if _shows_itself(record)} | kept_directories(held, places)
    below: dict[Uid, list[Uid]] = defaultdict(list)
    for uid in sorted(shown):
        below[places[uid][0]].append(uid)
    tree: dict[bytes, Outcome] = {}
    level: list[tuple[bytes, tuple[Uid, ...]]] = [(b"", (ROOT,))]
    while level:
        deeper: list[tuple[bytes, tuple[Uid, ...]]] = []
        for path, directory in level:
            names: dict[bytes, list[Record]] = defaultdict(list)
            for uid in sorted(child for part in directory for child in below[part]):
                names[places[uid][1]].append(held[uid])
            for name, wanting in (_spread(names) if siblings else names).items():
                at = b"/".join([path, name]) if path else name
                tree[at] = _contest(wanting)
                if tree[at].kind == DIRECTORY:
                    deeper.append((at, tree[at].winners))
        level = deeper
    return tree


def _spread(names: dict[bytes, list[Record]]) -> dict[bytes, list[Record]]:
    """Losers beside the winners, under their own names."""
    spread: dict[bytes, list[Record]] = defaultdict(list)
    for name, wanting in names.items():
        won = _contest(wanting).winners
        for record in wanting:
            spread[name if record.uid in won else sibling_name(record)].append(record)
    return {name: sorted(wanting, key=lambda record: record.uid) for name, wanting in spread.items()}


def cut_places(held: dict[Uid, Record]) -> Places:
    """Where every object is once all cycles are cut; those without a place are left out."""
    places = {uid: (record.place.parent, record.place.name) for uid, record in held.items() if record.place is not None}
    fallbacks: dict[Uid, list[tuple[Uid, bytes]]] = {}
    while cycles := _cycles(held, places):
        for cycle in cycles:
            newest = max(cycle, key=lambda uid: (_place_order(held[uid]), uid))
            if newest not in fallbacks:
                fallbacks[newest] = _fallbacks(held, newest)
            places[newest] = fallbacks[newest].pop(0)
    return places


def kept_directories(held: dict[Uid, Record], places: Places) -> set[Uid]:
    """Deleted directories above something that shows itself."""
    kept: set[Uid] = set()
    for uid, record in held.items():
        if not _shows_itself(record):
            continue
        above = places[uid][0]
        while above in held and held[above].kind == DIRECTORY and usable(held[above]):
            if not held[above].live:
                kept.add(above)
            above = places[above][0]
    return kept


def _shows_itself(record: Record) -> bool:
    return record.kind in (FILE, DIRECTORY, SYMLINK) and usable(record) and record.live


def _cycles(held: dict[Uid, Record], places: Places) -> list[set[Uid]]:
    parents = {uid: place[0] for uid, place in places.items() if held[uid].kind == DIRECTORY}
    cycles: list[set[Uid]] = []
    done: set[Uid] = set()
    for start in sorted(parents):
        way: list[Uid] = []
        at = start
        while at in parents and at not in done:
            done.add(at)
            way.append(at)
            at = parents[at]
        if at in way:
            cycles.append(set(way[way.index(at) :]))
    return cycles


def _fallbacks(held: dict[Uid, Record], uid: Uid) -> list[tuple[Uid, bytes]]:
    """Where the object goes when it is cut, and when it is cut once more."""
    place = held[uid].place
    assert place is not None
    last = [(ROOT, place.name)]
    parent = held.get(place.prior_parent)
    there = place.prior_parent == ROOT or parent is not None and parent.kind == DIRECTORY
    return [(place.prior_parent, place.prior_name), *last] if there and usable_name(place.prior_name) else last


def _place_order(record: Record) -> tuple[int, int, bytes]:
    assert record.place is not None
    return record.place.time_ms, record.place.replica if record.place.time_ms else 0, record.place_raw


def _contest(wanting: list[Record]) -> Outcome:
    """Who has the name; `wanting` in ascending order of UID."""
    directories = [record for record in wanting if record.kind == DIRECTORY]
    if directories:
        living = sorted((record for record in directories if record.live), key=_content_order)
        return _outcome(wanting, directories, living[-1] if living else directories[0])
    changed = [record for record in wanting if not record.original]
    best = max(changed, key=_latest) if changed else max(wanting, key=_found_last)
    equal = [record for record in wanting if record.kind == best.kind and _bytes(record) == _bytes(best)]
    return _outcome(wanting, equal, best)


def _outcome(wanting: list[Record], winners: list[Record], lead: Record) -> Outcome:
    losers = [record.uid for record in wanting if record not in winners]
    return Outcome(lead.kind, tuple(record.uid for record in winners), lead.uid, tuple(losers))


def _content_order(record: Record) -> tuple[int, int, bytes, Uid]:
    assert record.content is not None
    time_ms = record.content.time_ms
    return time_ms, record.content.replica if time_ms else 0, record.content_raw, record.uid


def _latest(record: Record) -> tuple[tuple[int, int], Uid]:
    assert record.place is not None
    assert record.content is not None
    stamps = ((part.time_ms, part.replica) for part in (record.place, record.content) if part.time_ms)
    return max(stamps), record.uid


def _found_last(record: Record) -> tuple[int, bytes, Uid]:
    assert record.content is not None
    return record.content.mtime_ns, _bytes(record), record.uid


def _bytes(record: Record) -> bytes:
    assert record.content is not None
    return record.content.digest if record.kind == FILE else record.content.value
