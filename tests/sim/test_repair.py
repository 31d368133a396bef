"""S28, and records that were lost: found by the digest, mended (docs/safety.md, section 7). Numbers are contents.

Two copies of one catalog can only be had with every check taken out that would tell: those of runs, of what was told,
and the caution after a start (S16, S27, S40 show them at work).
"""

from __future__ import annotations

import pytest

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.engine import meeting
from replicad.engine.caution import Caution
from tests.sim.group import FAULT, Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, apart, assert_nothing_kept, assert_tree, cut_off, join, kept, put


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells that a catalog was put back, or copied."""
    monkeypatch.setattr(meeting, "follows", lambda *args: True)
    monkeypatch.setattr(meeting, "lacks_what_it_told", lambda *args: False)
    monkeypatch.setattr(Caution, "waits", property(lambda self: setattr(self, "_until_ms", None)))


def copied_while_it_ran(group: Group) -> None:
    """a's home is copied; a goes on among the others but c, its copy with c alone: both make the next change of one
    replica id. What the first one's user does is on b; then a is the copy."""
    group.faulty = True
    a = group["a"]
    a.stop()
    copy = a.database.copy()
    cut_off(group, "c")
    a.start()
    group.run(5_000)
    put(a, "f", 2)
    group.run(5_000)
    a.stop()
    apart(group)
    a.put_catalog_back(copy)
    put(a, "f", 3)
    a.start()
    join(group, "a", "c")
    group.run(5_000)


def faults(member: SimMember) -> int:
    return sum(FAULT in report.text for report in member.reports)


@pytest.mark.usefixtures("unchecked")
def test_s28_one_cn_that_stands_for_two_changes_is_found_and_mended() -> None:
    group = a_group("abc", {"f": 1, "g": 9})
    copied_while_it_ran(group)
    a, b, c = group.members.values()
    assert a.catalog.known == b.catalog.known == c.catalog.known
    assert a.catalog.digest == c.catalog.digest != b.catalog.digest
    group.heal()
    assert_tree(group, {"f": 3, "g": 9})
    assert kept(b) == [2], "nobody who edited it again had seen that"
    assert_nothing_kept(group, [a, c])
    assert faults(b) <= 2
    assert all(faults(member) <= 1 for member in (a, c)), "one event for each pair of members that differ"
    assert any(map(faults, (a, b, c)))
    group.check_quiet()


@pytest.mark.usefixtures("unchecked")
def test_s28_one_cn_that_stands_for_two_new_files_is_mended_through_a_relay() -> None:
    """Both are one object: its UID is that CN."""
    group = a_group("abcd", {"f": 1}, pairs="ab bc cd")
    group.faulty = True
    a = group["a"]
    a.stop()
    copy = a.database.copy()
    a.start()
    put(a, "x", 2)
    group.heal()
    b, c, d = group["b"], group["c"], group["d"]
    a.stop()
    a.put_catalog_back(copy)
    cut_off(group, "a")
    a.fs.unlink(b"x")
    put(a, "y", 3)
    a.start()
    group.run(5_000)
    assert a.catalog.known == d.catalog.known
    group.heal()
    assert_tree(group, {"f": 1, "y": 3})
    assert [kept(member) for member in (a, b, c, d)] == [[], [2], [2], [2]]
    group.check_quiet()


@pytest.mark.parametrize("pairs", ["ab bc ac", "ab bc"])
@pytest.mark.parametrize("loser", "abc")
def test_rows_that_were_lost_from_one_catalog_come_back(pairs: str, loser: str) -> None:
    """The file is on its disk still, and no record says what it is: so it is kept, and fetched again."""
    group = a_group("abc", {"d/f": 1, "g": 2}, pairs=pairs)
    group.faulty = True
    member = group[loser]
    apart(group)
    group.run(1_000)
    draft = Draft(member.catalog)
    draft.drop(uid_of(member, b"g"))
    Catalog.commit(member.catalog, draft, now_ms=member.now_ms)  # behind the ledger's back
    group.heal()
    assert_tree(group, {"d/f": 1, "g": 2})
    assert kept(member) == [2]
    assert_nothing_kept(group, [other for other in group.members.values() if other is not member])
    assert sum(map(faults, group.members.values())) >= 2
    group.check_quiet()


def uid_of(member: SimMember, name: bytes) -> Uid:
    (uid,) = member.catalog.named(b"", name)
    return uid
