"""One step of a scan: looks at places, enters what is certain, leaves open what is not (see `engine.scan`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from replicad.core.diff import Sight, born_apart, compare, look
from replicad.core.draft import Draft
from replicad.core.effects import Effect
from replicad.core.ids import Cn, Uid, uid_of
from replicad.core.local import Appeared, Edited, LocalChange, Moved, Originator, Vanished
from replicad.core.plan import node_path
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, Node, NodeId
from replicad.core.want import settle
from replicad.engine.acts import trouble
from replicad.engine.deletions import Missing
from replicad.engine.scan_moves import Moves, Place, is_within
from replicad.engine.scan_read import TROUBLED_RETRY_MS, Read, Reader
from replicad.engine.scan_state import ANYTHING, Hint, Open, Reread, ScanState, Walk, Why
from replicad.files.changes import Listing, Watch, walk_and_watch
from replicad.files.fs import FileSystem, Stat
from replicad.files.hashing import Hashed
from replicad.files.paths import join, split

NS_PER_MS = 1_000_000
LOOKS_A_STEP = 512
"""Some 20 ms with small files, and a draft of as many objects. As many hints are followed: one leads to one look, and
what the applier puts there, and is told of, is not more a round (engine.apply), so hints of that do not pile up."""
READ_BYTES_A_STEP = 32 * 1_048_576
"""Of small files, in one step: as many milliseconds."""
MAPPED_MS = 60_000
"""A page that was written to is written to the disk within some 35 s (vm.dirty_expire_centisecs), and the next write to
it sets the mtime. RACE: a filesystem in memory never does, and there a write through a mapping may set no time at all:
where the file was last written to by other means longer ago than this, `verify` finds it."""
RUNS_MAX = 64
"""Steps in one draft, where what was moved must be looked into before it is decided what is gone: 32,768 looks."""
COVERED_RETRY_MS = 10_000
"""A mount point is looked at again after this: one system call."""
HINTS_PER_LISTING = 64
"""Hints come first; but where they never end, walks go on all the same."""
LISTED_PER_LOOK = 32
"""Entries of a listing that are as they were cost about as much as one that is looked at."""
HoldsBack = Callable[[Draft, Place, Stat, int], str]
"""Why what appears at a place, at this time, does not count as new (engine.unclaimed); "" where it does."""
Waits = Callable[[Draft, int], bool]


class Looked(msgspec.Struct):
    """What a step came to. The caller commits the draft, or drops it (`root_ok`); then it carries out the effects, also
    where the draft was dropped: what was to be hashed is waited for."""

    root_ok: bool = True
    void: bool = False
    """The draft is to be dropped, and the effects to be carried out: nothing is decided yet."""
    effects: list[Effect] = msgspec.field(default_factory=list)
    hashed: list[Hashed] = msgspec.field(default_factory=list)
    """Files with a manifest that were read: it belongs into the same commit."""
    touched: set[Uid] = msgspec.field(default_factory=set)
    """Objects that were written or looked at; they are settled."""
    ended: bool = False
    """A scan of the whole folder came to its end with it."""
    missing: Missing | None = None
    """What a scan finds gone, and is to be held: nothing of the step counts."""


class Step:
    """For one draft."""

    def __init__(
        self,
        state: ScanState,
        reader: Reader,
        fs: FileSystem,
        watch: Watch,
        founding: Callable[[], bool],
        draft: Draft,
        now_ns: int,
        holds_back: HoldsBack,
    ) -> None:
        self.looked = Looked()
        self.draft = draft
        self.fs = fs
        self.state = state
        self.now_ms = now_ns // NS_PER_MS
        root = fs.stat(b"")
        assert root is not None, "an open root has a stat"
        self.mount = root.mount
        self._now_ns = now_ns
        self._reader = reader
        self._watch = watch
        self._founding = founding
        self._holds_back = holds_back
        self._originator = Originator(draft, self.now_ms)
        self._read_bytes = 0
        self._as_before = False
        """The place that is looked at was left open, and nothing has been entered since."""
        self._before: Open | None = None
        """How the place that is looked at was open."""

    def run(self) -> None:
        """Until the step's share of work is done or nothing is left."""
        state = self.state
        state.wake(self.now_ms)
        left, follow, followed, ahead, foreseen = LOOKS_A_STEP, LOOKS_A_STEP, 0, 0, 0
        while left > 0 and (follow > 0 or state.places) and self._read_bytes < READ_BYTES_A_STEP:
            if state.places:
                if not ahead:
                    ahead = self._look_ahead(left)
                self.look_at(*state.next_place())
                ahead -= 1
                left -= 1
            elif state.hints and not (state.walks and followed >= HINTS_PER_LISTING):
                if not foreseen:
                    foreseen = self._look_ahead_of_hints(follow)
                (directory, name), hint = state.hints.take_first()
                self._follow(directory, name, hint)
                foreseen -= 1
                follow -= 1
                followed += 1
            elif state.walks:
                left -= self._advance(state.walks.first())
                followed = 0
            else:
                return

    def _look_ahead(self, left: int) -> int:
        """What the next looks will ask, asked at once. Returns for how many."""
        upcoming = list(islice(self.state.places.items(), left))
        if len(upcoming) > 1:
            self._foresee([place for place, _ in upcoming], [why.inode for _, why in upcoming if why.inode])
        return len(upcoming)

    def _look_ahead_of_hints(self, left: int) -> int:
        """As `_look_ahead`. They are followed one by one all the same: a look may change where the next one leads."""
        upcoming = list(islice(self.state.hints, left))
        if len(upcoming) > 1:
            at = {directory: self._locate(directory)[0] for directory, _ in upcoming}
            self._foresee([(parent, name) for directory, name in upcoming if (parent := at[directory]) is not None])
        return len(upcoming)

    def _foresee(self, entries: Sequence[Place], inodes: Sequence[int] = ()) -> None:
        """Each of them may be new, and then is the object of the next CN."""
        tenants = {parent: self.draft.uids_at(parent) for parent, _ in entries}
        names = [(uid, name) for parent, name in entries for uid in tenants[parent]]
        self.draft.look_ahead(names=names, entries=entries, inodes=inodes)
        replica, counter = self.draft.replica, self.draft.counter
        self.draft.objects(uid_of(Cn(replica, counter + index)) for index in range(1, len(entries) + 1))

    def run_to_the_end(self) -> None:
        """All that there is, within a limit; what is left is left for later steps."""
        for _ in range(RUNS_MAX):
            self._read_bytes = 0
            if not (self.state.places or self.state.hints or self.state.walks):
                return
            self.run()

    def take(self, changes: Sequence[LocalChange], why: Why) -> None:
        """Enter what was found."""
        self.state.changes += any(map(self._moves_an_entry, changes))
        if self.state.blocked and any(map(self._takes_a_directory, changes)):
            self.state.blocked_in_doubt = True
        self._originator.enter(changes, watched=not why.by_scan, founding=self._founding())

    def _moves_an_entry(self, change: LocalChange) -> bool:
        """Whether it changes which entry is known where: what is open may be certain then."""
        if not isinstance(change, Edited):
            return True
        node = self.draft.node(change.node)
        return node is None or node.inode != change.seen.inode

    def _takes_a_directory(self, change: LocalChange) -> bool:
        node = self.draft.node(change.node) if isinstance(change, Vanished) else None
        return node is not None and node.kind == DIRECTORY

    def forget(self, places: Sequence[Place]) -> None:
        """There is nothing to be read there."""
        for place in places:
            self._reader.forget(place)

    def finish(self) -> Looked:
        touched = self._originator.touched()
        settle(self.draft, touched.slots, touched.uids)
        self.looked.touched.update(touched.uids)
        return self.looked

    def look_at(self, place: Place, why: Why) -> None:
        directory, name = place
        if self.state.before is not None:
            self.state.before.looked(place, why)
        before = self._before = self.state.open.get(place)
        self._as_before = before is not None and before.changes == self.state.changes
        held = self.state.close(place)
        if held is not None:
            by_scan, since = why.by_scan and held.by_scan, min(why.since, held.since)
            why = why._replace(by_scan=by_scan, since=since, inode=0)
        if directory != ROOT_NODE and self.draft.node(directory) is None:
            self._reader.forget(place)
            self.state.told_of(place, came=False)
            return
        path = join(node_path(self.draft, directory), name)
        moves = Moves(self.draft, self.fs, self.mount, final=False)
        try:
            there, stat = moves.look(place)
            if not there:
                moves.look_at_directory(directory)
                self._leave_open(place, why, moves)
                return
            self.state.was_seen(place, stat is not None)
            self._see(place, path, stat, why, moves)
        except FileNotFoundError:
            self._lost_sight(place, why, moves)
        except OSError as error:
            self.trouble(place, path, trouble(path, error).reason, why)

    def trouble(self, place: Place, path: bytes, reason: str, why: Why) -> None:
        """Nothing can be said of this entry, nor of what is beneath it."""
        self.state.block(path, reason)
        self.state.give_up(path)
        self.state.told_of(place, came=False)
        self.state.delay(place, self.now_ms + TROUBLED_RETRY_MS, Why(why.by_scan, since=why.since), owed=False)

    def _covered(self, place: Place, path: bytes, why: Why) -> None:
        """Another filesystem is mounted here; nothing tells when it is not any more."""
        self.state.block(path, Sight.FOREIGN.blocked)
        self.state.give_up(path)
        self.state.delay(place, self.now_ms + COVERED_RETRY_MS, Why(why.by_scan, since=why.since), owed=False)

    # What was seen.

    def _see(self, place: Place, path: bytes, stat: Stat | None, why: Why, moves: Moves) -> None:
        node = self.draft.node_at(*place)
        sight = look(node, stat, self.mount)
        if sight is Sight.SAME and stat is not None and self._is_reread(place, stat, why):
            sight = Sight.READ
        if sight not in (Sight.READ, Sight.APPEARED):
            self._reader.forget(place)
        if sight is Sight.FOREIGN:
            self._covered(place, path, why)
        elif sight.blocked:
            self.state.block(path, sight.blocked)
        else:
            self._unblock(path, why, node)
        if sight in (Sight.VANISHED, Sight.REPLACED, Sight.OTHER) or (sight is Sight.UNFIT and node is not None):
            self.state.leave_open(place, why, standing(stat), stat.inode if stat is not None else 0, self._before)
        elif sight is Sight.APPEARED:
            assert stat is not None
            self._appeared(place, path, stat, why, moves)
        elif sight in (Sight.READ, Sight.MODE, Sight.SAME):
            assert node is not None
            assert stat is not None
            self._known(place, path, node, stat, sight, why, moves)

    def _is_reread(self, place: Place, stat: Stat, why: Why) -> bool:
        """Whether it is read though it looks as it did."""
        if stat.kind == DIRECTORY:
            return False
        age_ns = self._now_ns - max(stat.mtime_ns, stat.ctime_ns)
        recent = abs(age_ns) < MAPPED_MS * NS_PER_MS
        return why.reread is Reread.YES or (why.reread and recent) or self._reader.has_hash(place)

    def _appeared(self, place: Place, path: bytes, stat: Stat, why: Why, moves: Moves) -> None:
        origin, sure = moves.origin(stat, place)
        if origin is not None and not is_within(self.draft, place[0], origin.id):
            self.take([Moved(origin.id, *place, stat)], why)
            self.state.add(place, why)  # what else has changed about it
        elif origin is not None or not sure:
            self._leave_open(place, why, moves, stat)
        elif held_back := self._holds_back(self.draft, place, stat, self.now_ms):
            self._reader.forget(place)
            self.trouble(place, path, held_back, why)
        elif stat.kind == DIRECTORY:
            self._reader.forget(place)
            self.take([Appeared(self.draft.new_node_id(), *place, stat)], why)
            if self.draft.node_at(*place) is not None:
                self._enter_directory(path, why)
        else:
            found = self._read(place, path, stat, why, moves)
            if found is not None:
                fresh = found.trusted_ms is not None
                new = Appeared(self.draft.new_node_id(), *place, stat, found.digest, found.value, fresh)
                self.take([new], why)

    def _known(self, place: Place, path: bytes, node: Node, stat: Stat, sight: Sight, why: Why, moves: Moves) -> None:
        if node.kind == DIRECTORY:
            if sight is Sight.MODE:
                self.take([Edited(node.id, stat)], why)
            if not why.in_walk and (sight is Sight.MODE or not self._watch.is_watched(path)):
                self._enter_directory(path, why)
            return
        if sight is Sight.SAME:
            return
        if stat.inode != node.inode or born_apart(node, stat):
            origin, sure = moves.origin(stat, place)
            if origin is not None or not sure:
                self._leave_open(place, why, moves, stat)
                return
        found = self._read(place, path, stat, why, moves)
        if found is not None:
            self.take([Edited(node.id, stat, found.digest, found.value, found.trusted_ms is not None)], why)

    def _read(self, place: Place, path: bytes, stat: Stat, why: Why, moves: Moves) -> Read | None:
        found = self._reader.read(place, path, stat, self._now_ns, why, self.looked.effects)
        if isinstance(found, Read):
            self._read_bytes += stat.size
            if found.trusted_ms is not None:
                self.state.delay(place, found.trusted_ms, Why(by_scan=False, since=why.since, reread=why.reread))
            if found.hashed is not None and found.hashed.manifest is not None:
                self.looked.hashed.append(found.hashed)
            return found
        if found.gone:
            self._lost_sight(place, why, moves)
        if found.due_ms is not None:
            again = Why(why.by_scan, since=why.since, reread=why.reread)
            self.state.delay(place, found.due_ms, again, owed=not found.reason)
        if found.reason:
            self.state.block(path, found.reason)
        return None

    def _enter_directory(self, path: bytes, why: Why) -> None:
        """All that is in it must be looked at, unless a walk is about to do so."""
        if not why.in_walk:
            self.state.walk(path, full=why.by_scan, since=why.since)

    def _lost_sight(self, place: Place, why: Why, moves: Moves) -> None:
        """It went between two looks, or with its directory: of that it is told where it went, and not of what is in it,
        so whatever a hint said of the entry would be forgotten."""
        moves.look_at_directory(place[0])
        self._leave_open(place, why, moves)
        self.state.look_once_more(place)

    def _leave_open(self, place: Place, why: Why, moves: Moves, stat: Stat | None = None) -> None:
        """And look at the other side of what may be a move, though nothing has told of it; once, as long as nothing is
        entered: the other side may be a directory to be walked, on the way through which this place is met again."""
        self._reader.forget(place)  # if it is to be read, it is read when it is met again
        inode, seen = (standing(stat), stat.inode) if stat is not None else (ANYTHING, ANYTHING)
        self.state.leave_open(place, why, inode, seen, self._before)
        for other in () if self._as_before else moves.looked_past:
            if other not in self.state.open:
                self.state.add(other, Why(why.by_scan, since=why.since))

    def _unblock(self, path: bytes, why: Why, node: Node | None) -> None:
        """It can be seen. A directory that could not be read before is to be entered; one that is not known is when it
        has become so. (Where it was may not be to be seen: then it is blocked again, and would be entered for ever.)"""
        if self.state.blocked.pop(path, None) is not None and node is not None and node.kind == DIRECTORY:
            self._enter_directory(path, why)

    # Where to look.

    def _follow(self, directory: bytes, name: bytes, hint: Hint) -> None:
        """The entry `name` of what is, or was, at `directory`."""
        why = Why(hint.by_scan, since=hint.since, own=hint.own, reread=hint.reread)
        at, missing = self._locate(directory)
        for node in (node for inode in hint.inodes for node in self.draft.node_by_inode(inode)):
            if node.kind == DIRECTORY and node.id != at:
                self.state.told_of((node.id, name), hint.came)
                self.state.add((node.id, name), why)
        if at is None:
            assert missing is not None
            # While a scan is on its way, a directory that is not known yet need not have come just now.
            self.state.add(missing, Why(hint.by_scan or self.state.walking, since=hint.since))
            self.state.lose(directory, name, hint)
            return
        place = (at, name)
        self.state.told_of(place, hint.came)
        due_ms = self._reader.may_look(place, self.now_ms, hint.since)
        if due_ms is not None and not hint.came:  # what has come is missing where it was, of which is decided soon
            self.state.delay(place, due_ms, why)
        else:
            self.state.add(place, why)

    def _locate(self, directory: bytes) -> tuple[NodeId | None, Place | None]:
        """The node of a directory by its path; where there is none, the first place on the way that has none."""
        at = ROOT_NODE
        for name in directory.split(b"/") if directory else ():
            node = self.draft.node_at(at, name)
            if node is None or node.kind != DIRECTORY:
                return None, (at, name)
            at = node.id
        return at, None

    def _advance(self, walk: Walk) -> int:
        """The walk's next listing; returns what it cost, in looks."""
        if walk.listings is None:
            walk.listings = walk_and_watch(self._watch, self.fs, walk.path)
        try:
            listing = next(walk.listings, None)
        except OSError as error:
            self.state.block(walk.path, trouble(walk.path, error).reason)
            listing = None
        if listing is None:
            self.state.walks.end(walk)
            if walk.full and not walk.path:
                self.state.ending = True
            elif walk.path and walk.path not in self.state.blocked and not self._watch.is_watched(walk.path):
                # RACE: it was renamed, or one above it, on the way. The watch is about to tell where it is now; not of
                # what is in it, and those above it count as walked.
                self.state.lose(*split(walk.path), Hint((), walk.since, by_scan=walk.full))
            return 1
        self._take_listing(walk, listing)
        return 1 + len(listing.entries) // LISTED_PER_LOOK

    def _take_listing(self, walk: Walk, listing: Listing) -> None:
        why = Why(walk.full, in_walk=True, since=walk.since)
        at, missing = self._locate(listing.path)
        if listing.error is not None:
            reason = trouble(listing.path, listing.error).reason
            if at is not None and at != ROOT_NODE:
                node = self.draft.node(at)
                assert node is not None
                self.trouble((node.parent, node.name), listing.path, reason, why)
            else:
                self.state.block(listing.path, reason)
            return
        if at is None:
            assert missing is not None
            self.state.miss(listing.path, full=walk.full, since=walk.since)
            if missing not in self.state.open:
                self.state.add(missing, Why(walk.full, since=walk.since))
            return
        if not self._is_listed(at, listing.path, walk.since):
            self.state.miss(listing.path, full=walk.full, since=walk.since)
            return
        self.state.blocked.pop(listing.path, None)
        self.state.meet_again(listing.path, full=walk.full)
        inodes = {name: stat.inode for name, stat in listing.entries}
        for difference in compare(self.draft.nodes_in(at), listing.entries, self.mount, root=at == ROOT_NODE):
            if difference.sight is Sight.FOREIGN:
                self._covered((at, difference.name), join(listing.path, difference.name), why)
            else:
                self.state.add((at, difference.name), why._replace(inode=inodes.get(difference.name, 0)))

    def _is_listed(self, at: NodeId, path: bytes, since: int) -> bool:
        """Whether the directory that was listed is the one that the node stands for; else that is to be looked at."""
        try:
            if Moves(self.draft, self.fs, self.mount, final=False).in_place(at):
                return True
        except OSError as error:
            self.state.block(path, trouble(path, error).reason)
            return False
        node = self.draft.node(at)
        assert node is not None
        if (node.parent, node.name) not in self.state.open:
            self.state.add((node.parent, node.name), Why(by_scan=True, since=since))
        return False


def standing(stat: Stat | None) -> int:
    """What stands at a place, as `Open.inode`."""
    if stat is None:
        return 0
    return ANYTHING if stat.kind == DIRECTORY else stat.inode
