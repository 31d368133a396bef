"""What only the simulator knows: every change ever made, every content ever written, what each disk has shown.

The checks that hold at every commit are made here, when it is made: I2, I5, and now and then that the tree kept up by
differences is the one computed whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.full_tree import full_tree
from replicad.core.ids import Cn, ReplicaId, Uid
from replicad.core.records import DIRECTORY, FILE, Record, content_key, open_record, place_key
from replicad.core.tree import tree_of
from replicad.core.view import ObjectState
from replicad.engine.phases import CLEARING, PRIMARY, PUT_BACK, Phase
from replicad.engine.rejoining import DROPPED_META
from replicad.files.fs import FILE as DISK_FILE

if TYPE_CHECKING:
    from tests.sim.group import Group
    from tests.sim.member import SimMember

TREE_EVERY = 40
"""Commits of a member between two comparisons with the whole tree."""

RECORDS_MAX = 16_000

Key = tuple[Any, ...]


class Made(NamedTuple):
    """One register, as it was made."""

    uid: Uid
    content: bool
    key: Key
    raw: bytes
    member: str
    at_ms: int
    digest: bytes
    gone: bool
    """It is a deletion."""


class Before(NamedTuple):
    """Of a catalog, before a commit: what it knew, its counter, and what is dropped."""

    known: CNSet
    counter: int
    dropped: list[Record]


@dataclass
class Disk:
    """What one member's disk has shown, as its catalog says."""

    seen: set[bytes] = field(default_factory=set)
    """Digests of the files that its replica has looked at or installed there."""
    places: dict[Uid, Key] = field(default_factory=dict)
    contents: dict[Uid, Key] = field(default_factory=dict)
    """Of each object the highest version that was as the tree wanted it."""
    commits: int = 0
    accepted: CNSet = field(default_factory=CNSet)
    """Known, and found to be held."""


class Ledger:
    def __init__(self) -> None:
        self.made: dict[Cn, Made] = {}
        self.disks: dict[str, Disk] = {}
        self.destroyed: dict[bytes, str] = {}
        """Digest of a content of which a user overwrote or deleted a copy: who."""
        self.condemned: dict[bytes, str] = {}
        """The same, of copies that the member's replica had looked at by then: they may never come back."""
        self.affirmed: set[bytes] = set()
        """Contents of files of which a user changed mode or mtime: that is a version of its own, with the same bytes,
        and may win against whoever took them off. And of those that count as copies: of a file that was renamed, and
        whose name a new file took before anybody looked, nobody can tell whether it is a backup."""
        self.left: dict[tuple[str, bytes], list[bytes]] = {}
        """By member and path: the contents of the files that renames took away from there, where the member's replica
        has not looked since."""
        self.successors: dict[bytes, set[bytes]] = {}
        """By the content of a file that was renamed: of those that took its name before anybody looked."""
        self.copied: set[str] = set()
        """Members whose disk was replaced by a copy, until their replicas have looked at it: what is moved there
        meanwhile has no inode that tells, and is new at its name."""
        self.common: set[bytes] = set()
        """Contents that were written more than once: nothing is concluded from where they are."""
        self.untold: set[bytes] = set()
        """Contents that came about without any time telling of it: nobody need have read them."""
        self.texts: dict[bytes, bytes] = {}
        """For messages: what a digest stands for."""
        self.forgotten: dict[Uid, tuple[Key, Key]] = {}
        """Of tombstones that were collected: the keys of place and content."""
        self.any_forgot = False
        self.rejoined: set[str] = set()
        """Of the void members those that have begun to rejoin."""
        self.void: set[str] = set()
        """Members whose users' acts may count for nothing: their catalogs were put back, and they do not take part."""
        self.rejoining: set[str] = set()
        """Those that rejoin, for whatever reason, when they last committed: their disks claim nothing."""
        self.doubled = False
        """Two machines may have given out the same CNs."""
        self.twofold: set[ReplicaId] = set()
        """Their replica ids: of one that was dropped another may be known."""
        self.ambiguous: set[Cn] = set()
        """Those that were given out twice: of what they stand for nothing is concluded."""
        self.made_void: set[Cn] = set()
        """Contents that they have made then; by slot."""
        self.known: dict[str, CNSet] = {}
        """Of each member, when it last committed."""
        self.trees_checked = 0

    def disk(self, member: SimMember) -> Disk:
        return self.disks.setdefault(member.name, Disk())

    # -- users

    def wrote(self, data: bytes) -> None:
        digest = blake3(data).digest()
        if digest in self.texts:
            self.common.add(digest)
        self.texts[digest] = data[:40]

    def affirms(self, data: bytes) -> None:
        self.affirmed.add(blake3(data).digest())

    def took_off(self, member: SimMember, data: bytes) -> None:
        """A user overwrites or deletes a copy."""
        digest = blake3(data).digest()
        self.destroyed[digest] = member.name
        if digest in self.disk(member).seen:
            self.condemned[digest] = member.name
            if member.name in self.void or member.name in self.rejoining:
                self.affirmed.add(digest)

    def looked(self, member: SimMember) -> None:
        """Its replica has looked at all that happened on its disk."""
        twinned = member.id in member.group.twinned
        if member.running.course.takes_part and member.name in self.rejoined and not twinned:
            self.void.discard(member.name)
        for key in [key for key in self.left if key[0] == member.name]:
            del self.left[key]
        if not member.running.root.fault:
            self.copied.discard(member.name)

    def forgot(self, member: SimMember) -> None:
        """Its catalog was put back, or lost: its disk claims nothing, so what its user took off may come back."""
        self.affirmed |= {digest for digest, who in self.condemned.items() if who == member.name}
        self.void.add(member.name)
        self.rejoined.discard(member.name)
        self.any_forgot = True

    def discarded(self, member: SimMember, data: bytes) -> None:
        """A copy is gone from its disk, by an operator's word or the disk's fault: it may be the last one, and there
        may be others."""
        self.destroyed[blake3(data).digest()] = member.name

    def rejected(self, member: SimMember) -> None:
        """An operator has said that its disk is not to count: what its user took off may come back, also what he takes
        off until it takes part again."""
        self.affirmed |= {digest for digest, who in self.condemned.items() if who == member.name}
        self.void.add(member.name)
        self.rejoined.add(member.name)

    def left_folder(self, member: SimMember) -> None:
        """It has no catalog any more; should it join again, it begins with nothing."""
        self.forgot(member)
        before = self.disk(member)
        self.disks[member.name] = Disk(seen=before.seen)

    def joins(self, member: SimMember) -> None:
        """Its disk claims nothing, and nothing that is on it may get lost (rule 11)."""
        self.forgot(member)
        self.rejoined.add(member.name)
        for stat, data in member.fs.read_tree().values():
            if stat.kind == DISK_FILE:
                self.disk(member).seen.add(blake3(data).digest())

    def is_lost(self, group: Group, cn: Cn) -> bool:
        """A change that went with a catalog, and that nobody has heard of."""
        up = [member.catalog for member in group.members.values() if member.up]
        real = Cn(cn.replica, abs(cn.counter))
        return self.any_forgot and not any(real in catalog.known for catalog in up)

    def took_the_name(self, member: SimMember, data: bytes, left: bytes) -> None:
        """A file with `data` has the name that one with `left` had. If it was known elsewhere, that is a swap; unless
        its own name was taken likewise.

        A content that was written more than once (`common`) may have been seen in another file: it does not tell that
        this file was known, and the new file that it may be makes a copy of what left.
        """
        digest = blake3(data).digest()
        if digest not in self.disk(member).seen or digest in self.common:
            self.affirms(left)
        self.successors.setdefault(blake3(left).digest(), set()).add(digest)

    def all_affirmed(self) -> set[bytes]:
        """With what follows: where the successor counts as a copy itself, it is new at that name."""
        found = set(self.affirmed)
        while more := {left for left, took in self.successors.items() if left not in found and took & found}:
            found |= more
        return found

    def show(self, digest: bytes) -> str:
        return repr(self.texts.get(digest, digest))

    # -- commits

    def before(self, catalog: Catalog, draft: Draft | None) -> Before:
        dropped = [state.record for uid in draft.dropped if (state := catalog.object(uid))] if draft is not None else []
        return Before(catalog.known, catalog.counter, dropped)

    def committed(self, member: SimMember, catalog: Catalog, draft: Draft | None, before: Before) -> None:
        disk = self.disk(member)
        disk.commits += 1
        known, counter, dropped = before
        why = member.running.course.why if member.replica is not None else b""
        if why == CLEARING and member.name not in self.void:
            self.forgot(member)  # it came too late to found the folder
        if member.name in self.void and why:
            self.rejoined.add(member.name)
        if draft is not None:
            self._take_down(member, draft, counter)
            speaks = _is_made_to_speak(member)
            for state in draft.states.values():
                if speaks:
                    self._is_given_up(member, state)
                else:
                    self._saw(disk, state)
            self._collected(member, dropped)
        self.known[member.name] = catalog.known
        if member.replica is not None:
            (self.rejoining.add if member.running.course.why else self.rejoining.discard)(member.name)
        if catalog.known != known and not self.doubled:  # else it is looked at when all is mended
            fresh = catalog.known.minus(known)
            self.check_knowledge(member, catalog, fresh)
            self._stand(member, fresh)
        if disk.commits % TREE_EVERY == 0:
            self.check_tree(member, catalog)

    def _stand(self, member: SimMember, fresh: CNSet) -> None:
        """What a member made that was put back, before it met anyone who could tell, stands where another has it."""
        for cn in [cn for cn in self.made_void if cn in fresh]:
            made = self.made[_slot(cn, True)]
            if made.member != member.name:
                self.affirmed.add(made.digest)
                self.made_void.discard(cn)

    def _collected(self, member: SimMember, dropped: list[Record]) -> None:
        """What is forgotten is a deletion that every living member has carried out."""
        if not dropped:
            return
        rejoining = member.running.course.rejoining
        if rejoining.why == CLEARING or (rejoining.why == PUT_BACK and member.catalog.meta(DROPPED_META) is None):
            # Its own changes of which nobody has heard; what is known is less by them before anything is told.
            for held in dropped:
                self._claims_nothing(member, held.uid)
            return
        for held in dropped:
            uid = held.uid
            # One that joins has no reason, and may compare; a primary takes part before it has none any more.
            if (rejoining.why and not member.running.course.takes_part) or member.running.course.compares:
                others = (other for other in member.group.members.values() if other is not member and other.up)
                lost = all(other.catalog.object(uid) for other in others)
                assert not lost, f"{member.name} drops {uid.hex()}, which nobody has forgotten"
                self._forget(member, held)
                continue
            assert not held.live, f"{member.name} forgets {uid.hex()}, which is not gone"
            for other in member.group.members.values():
                if self.doubled or not member.waits_for(other):
                    continue  # where a CN stands for two changes, who knows the one seems to have installed the other
                disk = self.disk(other)
                at = disk.contents.get(uid)
                gone = at is None or at >= content_key(held)
                assert gone, f"I7: {member.name} forgets the deletion of {uid.hex()}, which {other.name} still has"
            self._forget(member, held)
            member.group.counts["tombstone collected"] += 1

    def _claims_nothing(self, member: SimMember, uid: Uid) -> None:
        """What is on its disk of it, if anything, claims nothing any more."""
        self.disk(member).contents.pop(uid, None)
        self.disk(member).places.pop(uid, None)

    def _forget(self, member: SimMember, held: Record) -> None:
        self._claims_nothing(member, held.uid)
        before = self.forgotten.get(held.uid)
        keys = place_key(held), content_key(held)
        self.forgotten[held.uid] = keys if before is None else (max(keys[0], before[0]), max(keys[1], before[1]))

    def _take_down(self, member: SimMember, draft: Draft, counter: int) -> None:
        for state in draft.states.values():
            held = state.record
            raws = ((held.place_raw, held.content_raw), (state.base_place_raw, state.base_content_raw))
            for place_raw, content_raw in raws:
                if place_raw or content_raw:
                    self._note(member, draft, counter, open_record(held.uid, held.kind, place_raw, content_raw))

    def _note(self, member: SimMember, draft: Draft, counter: int, one: Record) -> None:
        for content, register, raw in ((False, one.place, one.place_raw), (True, one.content, one.content_raw)):
            if register is None or register.replica != draft.replica or register.counter <= counter:
                continue
            key = content_key(one) if content else place_key(one)
            digest = one.content.digest if content and one.content is not None else b""
            gone = content and one.content is not None and one.content.gone is not None
            entry = Made(one.uid, content, key, raw, member.name, member.group.clock.now_ms, digest, gone)
            cn = register.cn
            slot = _slot(cn, content)
            if slot in self.ambiguous:
                self.common.add(digest)
                continue
            at = self.made.get(slot)
            if self.doubled and self._is_of_another(slot, member, raw):
                self._is_ambiguous(cn, digest)
                continue
            if at is not None and at.raw != raw:
                # An adopted base keeps its content's CN and has the disk's mode and mtime.
                if at.uid == one.uid:
                    continue
                # What went with a catalog, and nobody has heard of, is no more.
                assert self.any_forgot, f"I5: {cn} stands for two changes"
                heard = any(cn in known for name, known in self.known.items() if name != member.name)
                assert not heard, f"I5: {cn}, which is known elsewhere, stands for two changes"
                self._never_made(cn)
            self.made[_slot(cn, content)] = entry
            if content and member.name in self.void:
                self.made_void.add(cn)

    def _never_made(self, first: Cn) -> None:
        """This and all later ones of its replica id: they are given out anew."""
        for slot in [
            slot for slot in self.made if slot.replica == first.replica and abs(slot.counter) >= first.counter
        ]:
            del self.made[slot]

    def _is_of_another(self, slot: Cn, member: SimMember, raw: bytes) -> bool:
        found = [self.made.get(one) for one in (slot, Cn(slot.replica, -slot.counter))]
        return any(one is not None and one.member != member.name and one.raw != raw for one in found)

    def _is_ambiguous(self, cn: Cn, digest: bytes) -> None:
        self.common.add(digest)
        for content in (False, True):
            slot = _slot(cn, content)
            made = self.made.pop(slot, None)
            self.common.add(made.digest if made is not None else digest)
            self.ambiguous.add(slot)

    def _is_given_up(self, member: SimMember, state: ObjectState) -> None:
        """What the group has is entered as if it were on a primary's disk: what is not there goes, everywhere."""
        content = state.record.content
        if state.node is not None and content is not None and content.gone is None:
            self.destroyed[content.digest] = member.name

    def _saw(self, disk: Disk, state: ObjectState) -> None:
        if state.node is not None and state.record.kind == FILE:
            content = state.base_content
            if content is not None and content.gone is None:
                disk.seen.add(content.digest)
        held = state.record
        if state.pending:
            if state.node is None:
                return
            place_raw, content_raw = state.base_place_raw or held.place_raw, state.base_content_raw or held.content_raw
            held = open_record(held.uid, held.kind, place_raw, content_raw)
        if held.place is not None:
            disk.places[held.uid] = max(place_key(held), disk.places.get(held.uid, place_key(held)))
        if held.content is not None:
            disk.contents[held.uid] = max(content_key(held), disk.contents.get(held.uid, content_key(held)))

    def check_knowledge(self, member: SimMember, catalog: Catalog, fresh: CNSet, *, at_the_end: bool = False) -> None:
        """I2: of each CN that is new in `known` the register is held, or one that beats it."""
        for replica, parts in fresh.items():
            for first, last in parts:
                for counter in range(first, last + 1):
                    self._check_held(member, catalog, Cn(replica, counter), at_the_end=at_the_end)

    def _was_forgotten(self, made: Made, state: ObjectState | None, *, at_the_end: bool) -> bool:
        """Of an object that was dropped somewhere: whether who does not hold what was made then may claim it. Edits of
        those who have not heard count for nothing, once they have. A directory comes back where something that lives
        was moved into it."""
        if state is not None and state.record.kind != DIRECTORY:
            return False
        # Who has forgotten a deletion does not take another one of the same; those who still hold it may.
        return made.key <= self.forgotten[made.uid][made.content] or (state is None and (made.gone or not at_the_end))

    def _check_held(self, member: SimMember, catalog: Catalog, cn: Cn, *, at_the_end: bool) -> None:
        for content in (False, True):
            made = self.made.get(_slot(cn, content))
            if made is None or not self.twofold.isdisjoint((cn.replica, int.from_bytes(made.uid[:8], "big"))):
                continue
            state = catalog.object(made.uid)
            if made.uid in self.forgotten and self._was_forgotten(made, state, at_the_end=at_the_end):
                continue
            register = None if state is None else state.record.content if content else state.record.place
            assert state is not None, f"I2: {member.name} claims {cn} and does not hold {made.uid.hex()}"
            assert register is not None, f"I2: {member.name} claims {cn} and lacks the register"
            key = content_key(state.record) if content else place_key(state.record)
            assert key >= made.key, f"I2: {member.name} claims {cn} and holds an older version"

    def check_tree(self, member: SimMember, catalog: Catalog) -> None:
        self.trees_checked += 1
        whole = full_tree(records_of(catalog), siblings=catalog.siblings)
        assert tree_of(catalog) == whole, f"{member.name}: the tree kept up is not the tree computed whole"

    # -- waits

    def shown(self, member: SimMember, made: Made) -> bool:
        if made.uid in self.forgotten and made.key <= self.forgotten[made.uid][made.content]:
            return True  # who has learned of it since has never heard what it was
        disk = self.disk(member)
        best = (disk.contents if made.content else disk.places).get(made.uid)
        return best is not None and best >= made.key


def _is_made_to_speak(member: SimMember) -> bool:
    replica = member.replica
    return replica is not None and replica.course.why == PRIMARY and replica.phase is Phase.CLAIMING


def _slot(cn: Cn, content: bool) -> Cn:
    """Both registers of a creation have one CN; they are kept apart by the counter's sign."""
    return Cn(cn.replica, cn.counter if content else -cn.counter)


def records_of(catalog: Catalog) -> list[Record]:
    """Every record that is held."""
    page = catalog.page(0, EMPTY, RECORDS_MAX, RECORDS_MAX * 1_000)
    assert page.known is not None, "more records than a simulation makes"
    return [open_record(one.uid, one.kind, one.place, one.content) for one in page.records]
