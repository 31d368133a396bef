"""Deciding what a scan left open, when all that could be found has been found.

Each call makes the first kind of progress that there is, and has all open places looked at again: what one decision
changes (a directory that turned up carries everything in it along) is seen on the disk, not computed.

1. Entries that turned up at names that are free, or come free by the same moves: swaps, chains of renames.
2. Entries that turned up at names whose former holders are nowhere, or that are of another kind than these: what does
   not turn up thereby is gone (S34).
3. Another directory stands where one stood that is nowhere else: it has been made again; or one that is inside it now.
4. Entries that are nowhere: gone. A large directory goes in pieces, the uppermost last.

Moves come before deletions in one batch of changes, so what was moved out of a directory does not go with it.

A decision takes some milliseconds, in which users go on. What was moved before the marker that has answered was made
has been told of; what was moved since is told of before the next one answers, and is nowhere until then. That something
is on its way shows in four things:

- a place to which something was told to have come by a rename shows nothing, though not that it left it again was told
  (`ScanState.astray`);
- such a place could not be looked at yet, as its directory is away as well (`ScanState.came`);
- what stands at an open place is another thing than a moment ago;
- something was known at a place that was not open when this began, and has gone.

Then nothing is taken as gone because another stands at its name: the whole decision is taken back (engine.scan_undo),
and made again on the watch's next answer, which has told where things are. That costs one marker, and another look at
what was looked at for the decision. After ANSWERS_MAX such answers in a row it is decided all the same: a deletion
waits for so many markers at most, each of which comes within MARKER_MAX_MS (engine.asking) or counts as lost.

RACE: what goes on again and again for so many answers counts as gone, and as new where it is. Where nothing is watched,
nobody tells where it has gone, and there is no other answer to wait for: it is decided at once, and what was moved in
that moment is new at the next look at everything.
"""

from __future__ import annotations

from collections.abc import Iterator

from replicad.core.diff import Sight, look
from replicad.core.local import LIMBO_NODE, Appeared, Displaced, Edited, LocalChange, Moved, Vanished
from replicad.core.plan import node_path
from replicad.core.records import DIRECTORY
from replicad.core.view import ROOT_NODE, STAGING_NODE, Node, NodeId
from replicad.engine.acts import trouble
from replicad.engine.deletions import Missing, TooMany
from replicad.engine.scan_found import Claim, Found, freed
from replicad.engine.scan_moves import Moves, Place
from replicad.engine.scan_read import TROUBLED_RETRY_MS
from replicad.engine.scan_state import ANYTHING, Why
from replicad.engine.scan_step import Step, standing
from replicad.engine.scan_undo import Before
from replicad.files.fs import Stat
from replicad.files.paths import join

PIECE_NODES = 8_192
"""Entries that go in one commit: some 100 ms, and a draft of some 10 MB."""
AHEAD_NODES = 1_024
"""Looked up in one go: a catalog remembers a few thousand."""
ROUNDS_MAX = 8
"""How often everything is looked at again in one draft: more than directories are moved into each other at a time."""
UNCERTAIN = "it may have been moved here from a directory that cannot be read now"


class Resolver:
    """One call of `Scanner.resolve`."""

    def __init__(self, step: Step, told: int, too_many: TooMany, *, asks: bool) -> None:
        """`told`: the turn up to which the watch has told everything. `too_many`: as in `Scanner`. `asks`: it can be
        asked again."""
        self._too_many = too_many
        self._told = told
        self._asks = asks
        self._first_new = step.draft.next_node
        self._before: Before | None = None
        self._moving = False
        """Something is not where it was seen, or told to have come, a moment ago."""
        self._step = step
        self._state = step.state
        self._draft = step.draft
        self._moves = Moves(step.draft, step.fs, step.mount, final=True)

    def run(self) -> None:
        if self._state.doomed:
            self._go_on()
            return
        for _ in range(ROUNDS_MAX):
            found = self._survey()
            if found is None:
                return
            claims = self._claims(found)
            self._remember(found, claims)
            if not (self._move(claims) or self._outdated()):
                self._decide(found, claims)
                return
            self._progress()
            self._step.run_to_the_end()

    def _decide(self, found: list[Found], claims: dict[NodeId, Claim]) -> None:
        """What is left when no name is free for anything, and all was looked at since something was entered last."""
        decided = self._move_over(found, claims)
        if self._step.looked.void:
            return
        if decided or self._replace(found) or self._remove(found):
            self._progress()
        else:
            self._postpone()

    def _remember(self, found: list[Found], claims: dict[NodeId, Claim]) -> None:
        """Before the first change of what may come to displacing something."""
        wanted = self._asks and self._before is None
        if wanted and (claims or self._outdated() or any(one.sight is Sight.OTHER for one in found)):
            self._before = Before(self._state, self._first_new)

    def _take_back(self) -> bool:
        """Whether what is nowhere may be on its way, of which the watch tells before it answers once more."""
        before = self._before
        moving = self._moving or bool(self._state.came) or self._state.astray >= self._told
        if before is None or not moving or not self._state.wait_for_another():
            return False
        self._step.forget(before.restore(self._state))
        self._step.looked.void = True
        return True

    def _outdated(self) -> bool:
        """Something was entered since an open place was looked at: it may be certain by now."""
        return any(self._state.open[place].changes < self._state.changes for place, _ in self._ripe())

    def _progress(self) -> None:
        """Have everything that is open looked at again. What shows the same stays open since it was: where something
        is entered all the time, nothing would ever be decided."""
        for place, why in self._ripe():
            self._state.add(place, why._replace(own=True))
        self._state.catch_up()

    def _ripe(self) -> list[tuple[Place, Why]]:
        return [(place, held.why) for place, held in self._state.open.items() if self._state.ripe(held, self._told)]

    def _survey(self) -> list[Found] | None:
        """Look again: much may have happened. What cannot be seen says nothing. None: nothing can be decided, since
        what stands where something is not told of yet may be any of these."""
        elsewhere = self._state.unripe_inodes(self._told)
        if ANYTHING in elsewhere:
            return None
        found = []
        changed: set[int] = set()
        ripe = self._ripe()
        for index, (place, why) in enumerate(ripe):
            if index % AHEAD_NODES == 0:
                self._draft.look_ahead(entries=[ahead for ahead, _ in ripe[index : index + AHEAD_NODES]])
            directory, name = place
            if directory != ROOT_NODE and self._draft.node(directory) is None:
                self._state.close(place)
                continue
            path = join(node_path(self._draft, directory), name)
            try:
                there, stat = self._moves.look(place)
                if not there:
                    continue
            except OSError as error:
                self._state.close(place)
                self._step.trouble(place, path, trouble(path, error).reason, why)
                continue
            seen = self._state.open[place].seen
            if seen not in (ANYTHING, stat.inode if stat is not None else 0):
                # RACE: it has changed since it was looked at, of which the watch has not told yet, nor of where what
                # stood there has gone. Decided now, a move would be a deletion and a new file.
                changed |= {self._state.open[place].inode, standing(stat)}
                self._state.add(place, why)
                continue
            node = self._draft.node_at(directory, name)
            found.append(Found(place, path, why, stat, node, look(node, stat, self._step.mount)))
        self._moving |= bool(changed)
        return self._without_halves(found, elsewhere | changed - {0}) if ANYTHING not in changed else None

    def _without_halves(self, found: list[Found], elsewhere: set[int]) -> list[Found]:
        """Less what stands, by its inode, at a place that is not to be decided yet: the other half of a move, which
        something has told of again since the watch was asked. Decided alone, a move is a deletion and an edit. With a
        directory in which the other half was goes that half. The others do not wait: where things go all the time,
        there is always one of which not everything was told."""
        while elsewhere:
            around = self._around(elsewhere) if any(one.is_lost_directory for one in found) else set()
            halves = [one for one in found if one.left(elsewhere) or (one.node is not None and one.node.id in around)]
            for one in halves:
                self._state.hold_back(one.place, self._told)
            found = [one for one in found if self._state.ripe(self._state.open[one.place], self._told)]
            elsewhere = {one.stat.inode for one in halves if one.stat is not None}
        return found

    def _around(self, inodes: set[int]) -> set[NodeId]:
        """The directories in which, as far as is known, entries of these inodes are."""
        around: set[NodeId] = set()
        self._draft.look_ahead(inodes=sorted(inodes))
        for inode in inodes:
            for node in self._draft.node_by_inode(inode):
                for above in self._above(node.parent):
                    if above in around:
                        break
                    around.add(above)
        return around

    def _claims(self, found: list[Found]) -> dict[NodeId, Claim]:
        """Which nodes' entries stand at open places; each once."""
        claims: dict[NodeId, Claim] = {}
        for one in found:
            if one.stat is None or one.sight not in (Sight.APPEARED, Sight.REPLACED, Sight.OTHER, Sight.READ):
                continue
            if one.sight is Sight.READ and not one.is_another:
                continue
            try:
                origin, _ = self._moves.origin(one.stat, one.place)
            except OSError:
                continue  # its old place cannot be read now: not decided
            if origin is not None and origin.id not in claims:
                claims[origin.id] = Claim(origin, one)
        return claims

    # 1 and 2: moves.

    def _move(self, claims: dict[NodeId, Claim]) -> bool:
        """Moves to free names, and those that free each other's."""
        return self._apply(freed(claims))

    def _move_over(self, found: list[Found], claims: dict[NodeId, Claim]) -> bool:
        """What stands at names whose holders are nowhere, as far as can be seen.

        A directory that has moved, or is new, can be looked into only once it is entered, and there a holder may turn
        up, or what was in one. So the holders are displaced, everything is looked at again, all in this draft, and only
        what is still nowhere is gone.
        """
        displaced: dict[NodeId, None] = {}
        self._moving = False
        self._state.turn = self._told - 1  # what is found open on the way belongs to what is being decided
        for _ in range(ROUNDS_MAX):
            holders = self._holders(found, claims)
            for holder in holders if not displaced else ():
                piece = self._piece(holder, set(claims))
                if piece is not None:
                    self._vanish(piece, holder)
                    return True
            if holders:
                self._step.take([Displaced(holder.id) for holder in holders], Why(by_scan=False))
                displaced.update(dict.fromkeys(holder.id for holder in holders))
            if not self._apply(claims) and not holders:
                break
            self._progress()
            self._step.run_to_the_end()
            again = self._survey()
            if again is None:
                self._moving = True
                break
            found, claims = again, self._claims(again)
            self._moving |= any(map(self._went_just_now, found))
        gone = [key for key in displaced if (node := self._draft.node(key)) is not None and node.parent == LIMBO_NODE]
        if gone and self._take_back():
            return False
        if gone:
            self._step.take([Vanished(key) for key in gone], Why(by_scan=False))
        if displaced:
            self._draft.drop_node(LIMBO_NODE)
        return bool(displaced)

    def _went_just_now(self, one: Found) -> bool:
        """Whether something was known at a place that was not open before: it has gone since, or nothing told of it."""
        return one.node is not None and self._before is not None and self._before.open(one.place) is None

    def _holders(self, found: list[Found], claims: dict[NodeId, Claim]) -> list[Node]:
        """Those at whose names others stand, moved there or of another kind, and that are not found elsewhere."""
        holders = {claim.open.node.id: claim.open.node for claim in claims.values() if claim.open.node is not None}
        holders |= {one.node.id: one.node for one in found if one.node is not None and one.sight is Sight.OTHER}
        return [node for key, node in holders.items() if key not in claims]

    def _apply(self, claims: dict[NodeId, Claim]) -> bool:
        """Enter moves in an order in which no directory comes beneath itself. False if there are none.

        What finds no place in such an order has no claim (its old place has a new directory in it that no node stands
        for yet), and neither have those that wait for its name.
        """
        parents: dict[NodeId, NodeId] = {}
        ordered: list[Claim] = []
        waiting = dict(claims)
        while ready := [c for c in waiting.values() if not self._is_beneath(c.open.place[0], c.node.id, parents)]:
            for claim in ready:
                if not self._is_beneath(claim.open.place[0], claim.node.id, parents):
                    parents[claim.node.id] = claim.open.place[0]
                    ordered.append(claim)
                    del waiting[claim.node.id]
        if waiting:
            left = {key: claim for key, claim in claims.items() if key not in waiting}
            return self._apply(freed(left))
        if not ordered:
            return False
        changes: list[LocalChange] = []
        for claim in ordered:
            assert claim.open.stat is not None
            changes.append(Moved(claim.node.id, *claim.open.place, claim.open.stat))
        self._step.take(changes, Why(by_scan=any(claim.open.why.by_scan for claim in ordered)))
        return True

    def _is_beneath(self, inner: NodeId, outer: NodeId, parents: dict[NodeId, NodeId]) -> bool:
        """Whether `inner` is `outer` or beneath it, once what is in `parents` has moved."""
        at = inner
        while at not in (ROOT_NODE, STAGING_NODE):
            if at == outer:
                return True
            node = self._draft.node(at)
            assert node is not None, "a node's parent is missing"
            at = parents.get(at, node.parent)
        return False

    # 3: another directory at the name.

    def _replace(self, found: list[Found]) -> bool:
        changed = False
        for one in found:
            if one.sight is Sight.REPLACED and one.node is not None and one.stat is not None:
                try:
                    self._replace_one(one, one.node, one.stat)
                    changed = True
                except OSError as error:
                    self._state.block(one.path, trouble(one.path, error).reason)
        return changed

    def _replace_one(self, one: Found, node: Node, stat: Stat) -> None:
        changes = self._wrapped(one, stat, node, self._moves.search(one.path, node))
        self._step.take(changes or [Edited(node.id, stat)], one.why)
        self._state.walk(one.path, full=one.why.by_scan, since=one.why.since)

    def _wrapped(self, one: Found, stat: Stat, node: Node, way: list[tuple[bytes, Stat]]) -> list[LocalChange]:
        """The new directory, what is in it on the way down (new, or moved there as well), and the old entry as their
        last; nothing where it was not found."""
        if not way:
            return []
        at = self._draft.new_node_id()
        changes: list[LocalChange] = [Appeared(at, *one.place, stat)]
        path = one.path
        for name, between in way[:-1]:
            parent, path = at, join(path, name)
            known = self._moves.node_of(between, path)
            if known is not None:
                if self._is_beneath(one.place[0], known.id, {}):
                    return []
                at = known.id
                changes.append(Moved(at, parent, name, between))
            else:
                at = self._draft.new_node_id()
                changes.append(Appeared(at, parent, name, between))
        name, last = way[-1]
        if self._draft.node_at(at, name) is not None:
            return []
        return [*changes, Moved(node.id, at, name, last)]

    # 4: gone.

    def _remove(self, found: list[Found]) -> bool:
        """In pieces: nobody has any of these, so what is decided of all of them need not be asked again after each."""
        gone = [one for one in found if one.node is not None and one.sight in (Sight.VANISHED, Sight.UNFIT)]
        if self._is_held(gone):
            return True
        room = PIECE_NODES
        for start in range(0, len(gone), AHEAD_NODES):
            some = gone[start : start + AHEAD_NODES]
            if room > 0:
                self._look_ahead([one.node for one in some if one.node is not None])
            for one in some:
                assert one.node is not None
                if room > 0 and self._piece(one.node, set()) is None:
                    self._step.take([Vanished(one.node.id)], one.why)
                    room -= 1
                    continue
                self._state.close(one.place)
                self._state.doomed.put(one.node.id, one.why)
                room = 0
        return bool(gone)

    def _is_held(self, gone: list[Found]) -> bool:
        """What nobody has seen go, where it is too much: then nothing of this step counts."""
        scanned = [(one.node, one.path) for one in gone if one.node is not None and one.why.by_scan]
        found = self._too_many(self._draft, scanned, self._state.gone_by_scan)
        if isinstance(found, Missing):
            self._step.looked.missing = found
            return True
        self._state.gone_by_scan += found
        return False

    def _go_on(self) -> None:
        """The next piece of what is gone."""
        doomed, room = self._state.doomed, PIECE_NODES
        while doomed and room > 0:
            some = [doomed.take_first() for _ in range(min(len(doomed), room, AHEAD_NODES))]
            self._look_ahead([node for top, _ in some if (node := self._draft.node(top)) is not None])
            for index, (top, why) in enumerate(some):
                if room <= 0:
                    for left, held in reversed(some[index:]):
                        doomed.put_first(left, held)
                    break
                room -= self._doom(top, why)

    def _look_ahead(self, nodes: list[Node]) -> None:
        parents = {node.parent: self._draft.uids_at(node.parent) for node in nodes}
        self._draft.look_ahead(
            names=[(uid, node.name) for node in nodes for uid in parents[node.parent]],
            nodes=[node.id for node in nodes],
        )

    def _doom(self, top: NodeId, why: Why) -> int:
        """Enter it as gone, if it still is, or the next piece of a large directory. Returns how much that was."""
        node = self._draft.node(top)
        if node is None:
            return 0
        self._state.add((node.parent, node.name), why)
        try:
            there, stat = self._moves.look((node.parent, node.name))
        except OSError:
            return 1
        if look(node, stat if there else None, self._step.mount) not in (Sight.VANISHED, Sight.OTHER, Sight.UNFIT):
            return 1
        piece = self._piece(node, set())
        if piece is None:
            self._step.take([Vanished(top)], why)
            return 1
        self._vanish(piece, node)
        self._state.doomed.put_first(top, why)
        return PIECE_NODES

    def _vanish(self, piece: list[NodeId], top: Node) -> None:
        for start in range(0, len(piece), AHEAD_NODES):
            some = piece[start : start + AHEAD_NODES]
            self._draft.look_ahead(nodes=some)
            self._step.take([Vanished(node, top.id) for node in some], Why(by_scan=False))

    def _piece(self, top: Node, kept: set[NodeId]) -> list[NodeId] | None:
        """The next entries of a large directory that can go, those within before those around them; None: it is small.

        What is `kept`, and what is around it, is left for the last piece.
        """
        spared = {above for node in kept for above in self._above(node)}
        piece = [node for _, node in zip(range(PIECE_NODES + 1), self._inside_out(top), strict=False)]
        if len(piece) <= PIECE_NODES:
            return None
        return [node for node in piece if node not in spared and node != top.id] or None

    def _inside_out(self, top: Node) -> Iterator[NodeId]:
        way: list[tuple[Node, Iterator[Node]]] = [(top, iter(self._draft.nodes_in(top.id, PIECE_NODES + 1)))]
        while way:
            node, inside = way[-1]
            child = next(inside, None)
            if child is None:
                way.pop()
                yield node.id
            elif child.kind == DIRECTORY:
                way.append((child, iter(self._draft.nodes_in(child.id, PIECE_NODES + 1))))
            else:
                yield child.id

    def _above(self, node: NodeId) -> Iterator[NodeId]:
        at: Node | None = self._draft.node(node)
        while at is not None and at.id != ROOT_NODE:
            yield at.id
            at = self._draft.node(at.parent)

    def _postpone(self) -> None:
        """Nothing can be decided. What turned up meanwhile, or whose directory has gone, is looked at at once. The rest
        waits for what cannot be seen, and is looked at later: a fence does not count it, so it is in `blocked`, or the
        directory on the way is."""
        for place, why in self._ripe():
            if place in self._state.places:
                continue
            path = join(node_path(self._draft, place[0]), place[1])
            try:
                again = self._to_be_seen(place, path)
            except OSError as error:
                self._state.close(place)
                self._step.trouble(place, path, trouble(path, error).reason, why)
                continue
            if again is not None:  # what is open there, and shows the same, is open since it was
                self._state.add(again, Why(why.by_scan, since=why.since, own=True))
            else:
                self._state.close(place)
                self._state.told_of(place, came=False)
                self._state.delay(place, self._step.now_ms + TROUBLED_RETRY_MS, why, owed=False)

    def _to_be_seen(self, place: Place, path: bytes) -> Place | None:
        """Where to look now, for a place that was left open; None: there is nothing new, and why is in `blocked`."""
        there, stat = self._moves.look(place)
        if there:
            if self._state.open[place].seen != (stat.inode if stat is not None else 0):
                return place  # RACE: its directory was away, and is back
            self._state.block(path, UNCERTAIN)
            return None
        for above in reversed(list(self._above(place[0]))):
            node = self._draft.node(above)
            assert node is not None
            there, stat = self._moves.look((node.parent, node.name))
            sight = look(node, stat if there else None, self._step.mount)
            if sight.blocked:
                self._state.block(node_path(self._draft, above), sight.blocked)
                return None
            if sight not in (Sight.SAME, Sight.MODE):
                return node.parent, node.name
        return place
