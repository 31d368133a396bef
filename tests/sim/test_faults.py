"""Random histories in which disks fail and operators act, and what they have found. Members are a and b. A number is a
file's content.
"""

from __future__ import annotations

import errno
import random
from collections import Counter

import pytest

from replicad.core.messages import RestoreReply, decode_message, encode_message
from replicad.engine.phases import Phase
from replicad.errors import ProtocolError
from tests.sim.ailing import SYNCS, Ailing, Failing
from tests.sim.faults import FaultStory
from tests.sim.group import Group
from tests.sim.ledger import records_of
from tests.sim.member import LARGE_BYTES, SimMember
from tests.sim.script import a_group, apart, assert_nothing_kept, assert_tree, move, put, tree
from tests.sim.user import User

MINUTE_MS = 60_000
SEEDS = (8, 9)
OTHERS = ("malformed message", "nonsense refused", "hold approved", "hold rejected", "rejoins", "given up")


def test_i1_i2_i3_i5_i6_i7_i9_hold_where_disks_fail_and_operators_act() -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        story = FaultStory(seed)
        counts += story.run().counts
    wanted = [name for deck in (story.disks.temporary, story.disks.lasting, story.operators.acts) for name, _ in deck]
    assert not [name for name in (*wanted, *OTHERS) if not counts[name]]


def ailing(member: SimMember, *failing: Failing) -> Ailing:
    member.ailing = Ailing(member, random.Random(1))
    member.ailing.failing += failing
    return member.ailing


class SyncsSinceAnAct(Failing):
    """All of them from the first exchange with the tree on."""

    acted = False

    def concerns(self, method: str, paths: tuple[bytes, ...]) -> bool:
        object.__setattr__(self, "acted", self.acted or method == "exchange")
        return self.acted and method in SYNCS


class FirstSyncOfActs(Failing):
    """The one after the first rename into the tree."""

    acted = False

    def concerns(self, method: str, paths: tuple[bytes, ...]) -> bool:
        if method == "rename" and not paths[1].startswith(b".replicad/"):
            object.__setattr__(self, "acted", True)
        if not self.acted or method != "sync_all":
            return False
        object.__setattr__(self, "acted", False)
        return True


def test_what_a_scan_enters_while_it_could_not_be_synced_is_not_entered_twice() -> None:
    """Seeds 9, 23, 34, 40, 42: the folder stopped for good, with two entries of one name."""
    group = a_group("ab", {"f": 1})
    b = group["b"]
    b.watch_delay_ms = (0, 0)
    wrong = ailing(b, FirstSyncOfActs((errno.EIO,), 1.0))
    put(group["a"], "g", 2)
    group.run(5_000)
    assert group.counts["call failed: EIO"] == 1
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"f": 1, "g": 2})
    assert_nothing_kept(group)


def test_a_directory_that_left_one_which_cannot_be_searched_is_not_entered_for_ever() -> None:
    """Seed 17: its folder's thread was at it without a pause."""
    group = a_group("ab", {"d/c/f": 1, "e/g": 2})
    a = group["a"]
    wrong = ailing(a, Failing((errno.EACCES,), 1.0, changes=False, beneath=b"d/c"))
    move(a, "d/c", "e/c")
    handled = group.counts["events handled"]
    group.run(MINUTE_MS + 100)  # until it is looked at again
    assert group.counts["events handled"] - handled < 60
    assert tree(group["b"])["d/c/f"] == 1, "where it came from is not known"
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"d": None, "e/c/f": 1, "e/g": 2})


def test_a_scan_that_is_due_while_the_disk_cannot_be_synced_is_waited_for_without_haste() -> None:
    """Seed 15: it does not end while a large file is to be hashed, and is begun anew before."""
    group = a_group("ab", {"f": 1}, scan_interval_ms=MINUTE_MS)
    a = group["a"]
    wrong = ailing(a, Failing((errno.EIO,), 1.0, methods=SYNCS))
    put(a, "f", 2)
    User(a).write(b"large", b"0" * LARGE_BYTES + b"7")
    handled = group.counts["events handled"]
    group.run(3 * MINUTE_MS)
    assert group.counts["events handled"] - handled < 500
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"f": 2, "large": 7})


def test_s2_a_founders_first_scan_has_not_ended_while_what_it_found_could_not_be_synced() -> None:
    """Else what is found after it is new, and no original."""
    group = Group("ab")
    apart(group)
    for member in group.members.values():
        put(member, "d/f", 1)
    group.start_all()
    wrong = ailing(group["a"], Failing((errno.EIO,), 1.0, methods=SYNCS))
    group.run(MINUTE_MS)
    assert group["a"].running.phase is Phase.FOUNDING
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"d/f": 1})
    assert [len(records_of(member.catalog)) for member in group.members.values()] == [2, 2]
    assert not group.served


def test_i10_a_text_that_is_none_in_a_message_is_its_senders_fault() -> None:
    """Seed 4: it was a bug of ours."""
    good = encode_message(RestoreReply(path=b"", reason="because"))
    with pytest.raises(ProtocolError):
        decode_message(good.replace(b"because", b"bec\xa4use"))


def test_i3_what_was_done_for_a_version_that_is_superseded_by_the_time_it_is_entered_is_not_the_newer_one() -> None:
    """Seed 4: mtime and mode were set while the disk was read-only, or so it was tried; then the file was edited."""
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    wrong = ailing(b, Failing((errno.EROFS,), 1.0))
    User(a).touch(b"f", 1_600_000_000_000_000_000)
    group.run(5_000)
    assert b.catalog.intents(), "it is held"
    put(a, "f", 2)
    group.run(5_000)
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"f": 2})


def test_i2_a_version_that_was_put_and_superseded_before_it_could_be_synced_is_not_taken_for_the_newer_one() -> None:
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    wrong = ailing(b, SyncsSinceAnAct((errno.EIO,), 1.0))
    put(a, "f", 2)
    group.run(5_000)
    assert (tree(b), len(b.catalog.intents())) == ({"f": 2}, 1)
    put(a, "f", 3)
    group.run(5_000)
    wrong.failing.clear()
    group.heal()
    assert_tree(group, {"f": 3})


def test_a_mount_point_is_not_replaced_by_its_users() -> None:
    """Seed 131: what lay beneath was gone, of which nobody knew."""
    fs = SimMember(Group("a"), "a").fs
    fs.user_mkdir(b"new")
    fs.user_mkdir(b"d")
    fs.user_write(b"d/f", b"1")
    fs.user_mount(b"d")
    with pytest.raises(OSError, match="busy"):
        fs.user_rename(b"new", b"d")
    fs.user_unmount(b"d")
    assert fs.read_tree()[b"d/f"][1] == b"1"


def test_i10_a_folder_with_nothing_to_write_goes_on_while_the_disk_of_its_home_refuses_writes() -> None:
    """What others say is kept when it can be: a link that comes and goes, and a status, are no reason to stop."""
    group = a_group("abc", {"f": 1})
    a, b, c = (group[name] for name in "abc")
    ill = ailing(a)
    ill.home_full = True
    life = a.life
    put(c, "g", 2)
    group.network.cut("c", "a")
    group.network.cut("a", "c")
    group.network.cut("c", "b")
    group.network.cut("b", "c")
    group.run(3 * MINUTE_MS)
    assert a.life == life, a.refusal
    group.network.mend_all()
    group.run(MINUTE_MS)
    assert a.life != life, "what has to be written ends it"
    ill.home_full = False
    group.run(MINUTE_MS)
    group.heal()
    assert_tree(group, {"f": 1, "g": 2})
    assert_nothing_kept(group)
    assert tree(b) == tree(a)
