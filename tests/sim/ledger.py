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
from replicad.core.ids import Cn, Uid
from replicad.core.records import FILE, Record, content_key, open_record, place_key
from replicad.core.tree import tree_of
from replicad.core.view import ObjectState

if TYPE_CHECKING:
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
        self.common: set[bytes] = set()
        """Contents that were written more than once: nothing is concluded from where they are."""
        self.texts: dict[bytes, bytes] = {}
        """For messages: what a digest stands for."""
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

    def looked(self, member: SimMember) -> None:
        """Its replica has looked at all that happened on its disk."""
        for key in [key for key in self.left if key[0] == member.name]:
            del self.left[key]

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

    def before(self, catalog: Catalog) -> tuple[CNSet, int]:
        return catalog.known, catalog.counter

    def committed(self, member: SimMember, catalog: Catalog, draft: Draft | None, before: tuple[CNSet, int]) -> None:
        disk = self.disk(member)
        disk.commits += 1
        known, counter = before
        if draft is not None:
            self._take_down(member, draft, counter)
            for state in draft.states.values():
                self._saw(disk, state)
        if catalog.known != known:
            self.check_knowledge(member, catalog, catalog.known.minus(known))
        if disk.commits % TREE_EVERY == 0:
            self.check_tree(member, catalog)

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
            entry = Made(one.uid, content, key, raw, member.name, member.group.clock.now_ms, digest)
            cn = register.cn
            at = self.made.get(_slot(cn, content))
            if at is not None and at.raw != raw:
                # An adopted base keeps its content's CN and has the disk's mode and mtime.
                assert at.uid == one.uid, f"I5: {cn} stands for two changes"
                continue
            self.made[_slot(cn, content)] = entry

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

    def check_knowledge(self, member: SimMember, catalog: Catalog, fresh: CNSet) -> None:
        """I2: of each CN that is new in `known` the register is held, or one that beats it."""
        for replica, parts in fresh.items():
            for first, last in parts:
                for counter in range(first, last + 1):
                    self._check_held(member, catalog, Cn(replica, counter))

    def _check_held(self, member: SimMember, catalog: Catalog, cn: Cn) -> None:
        for content in (False, True):
            made = self.made.get(_slot(cn, content))
            if made is None:
                continue
            state = catalog.object(made.uid)
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
        disk = self.disk(member)
        best = (disk.contents if made.content else disk.places).get(made.uid)
        return best is not None and best >= made.key


def _slot(cn: Cn, content: bool) -> Cn:
    """Both registers of a creation have one CN; they are kept apart by the counter's sign."""
    return Cn(cn.replica, cn.counter if content else -cn.counter)


def records_of(catalog: Catalog) -> list[Record]:
    """Every record that is held."""
    page = catalog.page(0, EMPTY, RECORDS_MAX, RECORDS_MAX * 1_000)
    assert page.known is not None, "more records than a simulation makes"
    return [open_record(one.uid, one.kind, one.place, one.content) for one in page.records]
