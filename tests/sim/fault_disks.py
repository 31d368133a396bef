"""What goes wrong with members' disks in a random history (tests.sim.faults), and is mended after a while.

Each fault is a method that begins it on a member, and returns what mends it; None where it cannot happen there now.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from contextlib import suppress

from replicad.files.fs import DIRECTORY, FILE, OTHER
from replicad.files.paths import join
from tests.sim.ailing import SYNCS, Ailing, Failing, copied, empty_tree, unwatched
from tests.sim.group import Group, files
from tests.sim.member import SimMember
from tests.sim.memory_fs import MemoryFileSystem, MemoryOpenFile
from tests.sim.memory_tree import Tree
from tests.sim.user import NAMES

Mend = Callable[[], None]
Fault = Callable[[SimMember], Mend | None]

ROOMS = (0, 50, 500, 5_000)
"""Bytes left on a disk that is full."""
STAGED_AND_STORED = b".replicad"


class DiskFaults:
    """`rng`: of these faults alone."""

    def __init__(self, group: Group, rng: random.Random) -> None:
        self._group = group
        self.rng = rng
        self._backups: dict[str, Tree] = {}
        self._written = 0

    @property
    def temporary(self) -> list[tuple[str, Fault]]:
        """(name, fault)."""
        return [
            ("disk full", self._full),
            ("writes fail", self._writes_fail),
            ("syncs fail", self._syncs_fail),
            ("half readable", self._half_readable),
            ("read-only disk", self._read_only),
            ("home full", self._home_full),
            ("name refused", self._name_refused),
            ("not watched", self._not_watched),
            ("no events", self._no_events),
            ("root away", self._away),
            ("root mounted anew", self._mounted_anew),
            ("another disk over the root", self._covered),
            ("started without its disk", self._unmounted_at_start),
            ("mounted over", self._mounted_over),
            ("busy file", self._busy),
            ("fifo in the way", self._fifo),
        ]

    @property
    def lasting(self) -> list[tuple[str, Fault]]:
        """Of which nobody mends anything: the members do, or an operator decides."""
        return [
            ("emptied while stopped", self._emptied),
            (".replicad removed", self._cleaned),
            ("disk replaced by a copy", self._replaced),
            ("disk replaced by an old copy", self._replaced_by_old),
            ("directory closed", self._closed),
        ]

    # -- calls that fail

    def _full(self, member: SimMember) -> Mend | None:
        tree = member.fs.tree
        tree.capacity_bytes = tree.used_bytes + self.rng.choice(ROOMS)
        return lambda: setattr(tree, "capacity_bytes", None)

    def _fail(self, member: SimMember, *failing: Failing) -> Mend:
        at = ailing(member).failing
        at += failing

        def mend() -> None:
            for one in failing:
                at.remove(one)

        return mend

    def _chance(self) -> float:
        return self.rng.choice((0.05, 0.3, 1.0))

    def _writes_fail(self, member: SimMember) -> Mend | None:
        codes = self.rng.choice(((errno.EIO,), (errno.EDQUOT,), (errno.EIO, errno.ENOSPC, errno.EACCES)))
        methods = self.rng.choice(
            (frozenset[str](), frozenset({"write_at", "create"}), frozenset({"rename", "exchange"}))
        )
        return self._fail(member, Failing(codes, self._chance(), methods=methods))

    def _syncs_fail(self, member: SimMember) -> Mend | None:
        return self._fail(member, Failing((errno.EIO,), self._chance(), methods=SYNCS))

    def _half_readable(self, member: SimMember) -> Mend | None:
        paths = [*member.fs.read_tree(), b".replicad/marker", b".replicad/staging", b".replicad"]
        beneath = self.rng.choice([None, *paths])
        return self._fail(
            member,
            Failing((self.rng.choice((errno.EIO, errno.EACCES)),), self._chance(), changes=False, beneath=beneath),
        )

    def _read_only(self, member: SimMember) -> Mend | None:
        return self._without_users(member, self._fail(member, Failing((errno.EROFS,), 1.0)))

    def _home_full(self, member: SimMember) -> Mend | None:
        one = ailing(member)
        one.home_full = True
        return lambda: setattr(one, "home_full", False)

    def _name_refused(self, member: SimMember) -> Mend | None:
        there = {path.rpartition(b"/")[2] for path in member.fs.read_tree(private=True)}
        names = [name for name in (*NAMES, *(b"m%d" % number for number in range(20))) if name not in there]
        if not names:
            return None
        tree = member.fs.tree
        tree.refused = frozenset(self.rng.sample(names, min(len(names), self.rng.choice((1, 5)))))
        return lambda: setattr(tree, "refused", frozenset())

    # -- events

    def _not_watched(self, member: SimMember) -> Mend | None:
        one, rng = ailing(member), random.Random(self.rng.random())
        tops = {
            path for path, (stat, _) in member.fs.read_tree().items() if stat.kind == DIRECTORY and rng.random() < 0.5
        }
        everything = rng.random() < 0.2
        why = "cannot be watched: no watches left"
        one.refuses = lambda path: why if everything or path in tops else None

        def mend() -> None:
            one.refuses = lambda path: None

        member.overflow()
        return mend

    def _no_events(self, member: SimMember) -> Mend | None:
        """Where it lasts long enough it is noticed; else the system says that it has lost some."""
        one = ailing(member)
        one.deafen(deaf=True)

        def mend() -> None:
            one.deafen(deaf=False)
            member.overflow()

        return mend

    # -- the root

    def _without_users(self, member: SimMember, mend: Mend) -> Mend:
        one = ailing(member)
        one.no_users += 1

        def both() -> None:
            one.no_users -= 1
            mend()

        return both

    def _away(self, member: SimMember) -> Mend | None:
        one = ailing(member)
        one.away(there=False)
        return self._without_users(member, one.back_in_place)

    def _mounted_anew(self, member: SimMember) -> Mend | None:
        one = ailing(member)
        one.away(there=False)

        def mend() -> None:
            if member.up:
                one.away(there=True)
            else:
                one.back_in_place()

        return self._without_users(member, mend)

    def _covered(self, member: SimMember) -> Mend | None:
        """By an empty one, or by a copy; nobody takes it for the folder."""
        fs, one = member.fs, ailing(member)
        if not fs.in_place:
            return None
        one.away(there=False)
        one.temporary = True
        other = MemoryFileSystem(fs.tree._clock)
        other.tree = empty_tree(fs) if self.rng.random() < 0.5 else copied(fs.tree)
        other.uuid = b"of another disk."
        fs.anew = other

        def mend() -> None:
            one.temporary = False
            one.back_in_place()

        return self._without_users(member, mend)

    def _unmounted_at_start(self, member: SimMember) -> Mend | None:
        """What its users see meanwhile is the empty directory; nobody writes there."""
        if not self._halted(member):
            return None
        fs, one = member.fs, ailing(member)
        tree, uuid = fs.tree, fs.uuid
        fs.tree, fs.uuid = empty_tree(fs), b"of the mount point's"
        one.temporary = True
        member.start()

        def mend() -> None:
            if member.up:
                member.crash()
            for data in files(member, private=True).values():  # it began on that one, if it had never begun before
                self._group.ledger.discarded(member, data)
            fs.tree, fs.uuid = unwatched(tree), uuid
            one.temporary = False
            if not member.up:
                member.start()

        return self._without_users(member, mend)

    def _mounted_over(self, member: SimMember) -> Mend | None:
        """Over a directory of the folder; what lies beneath is not seen meanwhile."""
        directories = [path for path, (stat, _) in member.fs.read_tree().items() if stat.kind == DIRECTORY]
        if not directories:
            return None
        path = self.rng.choice(directories)
        parent, _, name = path.rpartition(b"/")
        under = member.fs.tree.directory(parent).entries[name]
        if under.covered_by is not None:
            return None
        member.fs.user_mount(path)
        return lambda: setattr(under, "covered_by", None)

    def _emptied(self, member: SimMember) -> Mend | None:
        """By accident, or by a user who wants it so: what is to come of it an operator says, where the folder asks."""
        if not self._halted(member):
            return None
        ledger, everything = self._group.ledger, self.rng.random() < 0.4
        tops = sorted({path.split(b"/")[0] for path in member.fs.read_tree()})
        gone = [top for top in tops if everything or self.rng.random() < 0.7]
        for path, data in files(member).items():
            if path.split(b"/")[0] in gone:
                ledger.took_off(member, data)
        for top in gone:
            with suppress(OSError):
                member.fs.user_remove_tree(top)
        if everything and self.rng.random() < 0.6:
            self._remove_private(member)
        self._start_later(member)
        return _nothing

    def _cleaned(self, member: SimMember) -> Mend | None:
        """`git clean -fdx`, perhaps while the daemon runs."""
        if self.rng.random() < 0.5:
            if not self._halted(member):
                return None
            self._start_later(member)
        self._remove_private(member)
        return _nothing

    def _remove_private(self, member: SimMember) -> None:
        for path, (stat, data) in member.fs.read_tree(private=True).items():
            if stat.kind == FILE and path.startswith(b".replicad/"):
                self._group.ledger.discarded(member, data)
        with suppress(OSError):
            member.fs.user_remove_tree(b".replicad")

    def _replaced(self, member: SimMember) -> Mend | None:
        """By a disk to which all was copied."""
        if not self._halted(member):
            return None
        member.fs.tree = copied(member.fs.tree)
        self._group.ledger.copied.add(member.name)
        self._start_later(member)
        return _nothing

    def _replaced_by_old(self, member: SimMember) -> Mend | None:
        """By one to which all was copied some time ago."""
        tree = self._backups.pop(member.name, None)
        if tree is None or not self._halted(member):
            return None
        before = files(member, private=True) | _staged(member)
        member.fs.tree = tree
        after = set(files(member, private=True).values())
        for data in before.values():
            if data not in after:
                self._group.ledger.discarded(member, data)
        for data in after:
            self._group.ledger.affirms(data)
        self._start_later(member)
        return _nothing

    def back_up(self, member: SimMember) -> None:
        """All that is on its disk, for later."""
        self._backups[member.name] = copied(member.fs.tree)

    def _halted(self, member: SimMember) -> bool:
        if member.up:
            if self.rng.random() < 0.5:
                member.stop()
            else:
                member.crash()
        return not member.up

    def _start_later(self, member: SimMember) -> None:
        delay_ms = self.rng.choice((0, 1_000, 10_000))
        self._group.clock.after(delay_ms, lambda: member.start() if not member.up else None)

    # -- users

    def _busy(self, member: SimMember) -> Mend | None:
        """Somebody has a file open, and writes to it again and again."""
        paths = list(files(member))
        if not paths:
            return None
        file = member.fs.user_open(self.rng.choice(paths))
        pause_ms = self.rng.choice((20, 90, 400, 3_000))
        open_ = True

        def write() -> None:
            if not open_:
                return
            self._written += 1
            self._write(member, file, b"busy %d on %s" % (self._written, member.name.encode()))
            self._group.clock.after(pause_ms, write)

        def mend() -> None:
            nonlocal open_
            open_ = False
            file.close()

        write()
        return mend

    def _fifo(self, member: SimMember) -> Mend | None:
        """Of a name that something else may be wanted at."""
        directories = [b"", *(path for path, (stat, _) in member.fs.read_tree().items() if stat.kind == DIRECTORY)]
        try:
            member.fs.user_fifo(join(self.rng.choice(directories), self.rng.choice(NAMES)))
        except OSError:
            return None  # taken, or refused

        def mend() -> None:
            for path, (stat, _) in member.fs.read_tree().items():
                if stat.kind == OTHER:
                    member.fs.user_unlink(path)

        return mend

    def _closed(self, member: SimMember) -> Mend | None:
        """Its mode lets nobody change what is in it but who may change its mode."""
        directories = [path for path, (stat, _) in member.fs.read_tree().items() if stat.kind == DIRECTORY]
        if not directories:
            return None
        member.fs.user_chmod(self.rng.choice(directories), 0o555)
        return _nothing

    def _write(self, member: SimMember, file: MemoryOpenFile, data: bytes) -> None:
        ledger = self._group.ledger
        before = file.read_at(0, 1 << 30)
        now = data.ljust(len(before), b".")
        with suppress(OSError):  # a full disk
            file.write_at(0, now)
            ledger.took_off(member, before)
            ledger.wrote(now)


def _nothing() -> None:
    pass


def _staged(member: SimMember) -> dict[bytes, bytes]:
    found = member.fs.read_tree(private=True).items()
    return {path: data for path, (stat, data) in found if stat.kind == FILE and path.startswith(b".replicad/staging/")}


def ailing(member: SimMember) -> Ailing:
    assert member.ailing is not None
    return member.ailing
