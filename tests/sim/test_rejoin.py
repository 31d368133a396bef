"""`replicad rejoin FOLDER [--primary]` (docs/safety.md, section 5), with a crash at every commit. Members are a, b, c.
A number is a file's content.
"""

from __future__ import annotations

import pytest

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.tree import retree
from replicad.core.want import settle
from replicad.engine.asked import rejoin
from replicad.engine.deletions import HELD_META
from replicad.engine.phases import WHY_META, Phase
from replicad.errors import OperatorError
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, apart, assert_nothing_kept, assert_tree, cut_off, delete, kept, put, remove_tree
from tests.sim.test_deletions import FORTY, a_strict_group
from tests.sim.test_world import TEN, assert_settled, decided, remove_private

FIRST = {"f": 1, "g": 2, "d/h": 3, "d/e/i": 4}


def ask(member: SimMember, *, primary: bool = False, force: bool = False) -> None:
    """As the daemon does it: the folder starts anew after it."""
    rejoin(member.running, member._new_replica(), primary=primary, force=force, now_ms=member.now_ms)
    member.stop()
    member.start()


def changed_unseen(member: SimMember) -> None:
    """Users act, and the folder is asked to rejoin before it has looked: it forgets what it would have seen."""
    member.watch_delay_ms = (60_000, 60_000)
    put(member, "f", 11)
    put(member, "only", 5)
    delete(member, "g")
    member.watch_delay_ms = (0, 30)


def back_again(group: Group) -> None:
    """What those users took off is back on purpose (rule 11)."""
    for number in (1, 2):
        group.ledger.affirms(b"%d" % number)


def refusal(member: SimMember, **how: bool) -> str:
    with pytest.raises(OperatorError) as refused:
        ask(member, **how)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_what_a_rejoining_disk_has_beyond_the_group_goes_to_preexisting() -> None:
    group = a_group("abc", FIRST)
    b = group["b"]
    served = len(group.served)
    changed_unseen(b)
    ask(b)
    group.heal()
    back_again(group)
    assert_tree(group, FIRST)
    assert kept(b) == [5, 11]
    assert_nothing_kept(group, [group["a"], group["c"]])
    assert len(group.served) == served + 2, "what is equal is adopted"


def test_what_its_catalog_has_lost_comes_again() -> None:
    """It knows what it holds, and no more."""
    group = a_group("ab", FIRST)
    catalog = group["b"].catalog
    uid = catalog.present_named(b"", b"g")[0]
    draft = Draft(catalog)
    before = draft.object(uid)
    draft.drop(uid)
    settle(draft, retree(draft, [(uid, before)]), ())
    Catalog.commit(catalog, draft, now_ms=group["b"].now_ms)
    ask(group["b"])
    group.heal()
    assert_tree(group, FIRST)


def test_what_it_made_and_nobody_has_yet_stays_where_its_disk_has_it() -> None:
    group = a_group("abc", FIRST)
    b = group["b"]
    cut_off(group, "b")
    put(b, "new", 6)
    group.run(10_000)
    group.network.unite("a", "b")
    group.run(300)
    ask(b)
    group.heal()
    assert_tree(group, {**FIRST, "new": 6})
    assert_nothing_kept(group)


def test_a_primarys_disk_is_what_everybody_has_then() -> None:
    group = a_group("abc", FIRST)
    b = group["b"]
    changed_unseen(b)
    ask(b, primary=True)
    group.heal()
    assert_tree(group, {"f": 11, "only": 5, "d/h": 3, "d/e/i": 4})


def test_a_primary_that_is_where_the_group_is_changes_nothing() -> None:
    group = a_group("abc", FIRST)
    before = [member.catalog.known for member in group.members.values()]
    served = len(group.served)
    ask(group["b"], primary=True)
    group.heal()
    assert_tree(group, FIRST)
    assert [member.catalog.known for member in group.members.values()] == before, "no change is made"
    assert len(group.served) == served
    assert_nothing_kept(group)


def test_what_a_primary_lacks_is_not_held() -> None:
    """However much it is: the operator has said so already. It holds for that one scan."""
    group = a_strict_group()
    a = group["a"]
    a.watch_delay_ms = (60_000, 60_000)
    remove_tree(a, "d0")
    ask(a, primary=True)
    a.watch_delay_ms = (0, 30)
    group.heal()
    assert_tree(group, {path: number for path, number in FORTY.items() if not path.startswith("d0/")} | {"d1": None})
    assert not a.running.held
    assert a.catalog.meta(HELD_META) is None


def test_a_primary_whose_disk_is_rejected_says_nothing() -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    rejoin(a.running, a._new_replica(), primary=True, force=False, now_ms=a.now_ms)
    a.stop()
    remove_private(a)
    remove_tree(a, "d")
    put(a, "d/f4", 104)
    a.start()
    group.run(10_000)
    assert a.running.held
    decided(a, approve=False)
    group.heal()
    assert kept(a) == [104]
    assert_settled(group, {"d": None, **TEN})


def test_a_primary_that_reaches_nobody_goes_on_alone() -> None:
    group = a_group("ab", FIRST)
    a, b = group["a"], group["b"]
    apart(group)
    group.run(1_000)
    put(a, "g", 7)
    group.run(5_000)
    ask(b, primary=True)
    put(b, "f", 8)
    group.run(60_000)
    assert b.running.phase is Phase.TAKING_PART
    group.heal()
    assert_tree(group, {**FIRST, "g": 7, "f": 8})


def test_a_primary_is_at_work_until_its_disk_was_looked_at_whole() -> None:
    group = a_group("ab", FIRST)
    ask(group["b"], primary=True)
    states: set[tuple[bool, bool, int]] = set()

    def note(member: SimMember) -> None:
        if member is group["b"] and member.up:
            replica = member.running
            states.add((bool(replica.disk.scanner.full_scans), bool(replica.course.why), replica.state.state))

    group.on_handled = note
    group.heal()
    assert states == {(False, True, 3), (True, False, 4)}


@pytest.mark.parametrize("primary", [False, True], ids=["rejoin", "primary"])
def test_i12_it_ends_as_it_should_whenever_it_is_killed(primary: bool) -> None:
    """Before each of its commits, from the first one on."""
    wanted = {"f": 11, "only": 5, "d/h": 3, "d/e/i": 4} if primary else FIRST
    at = 0
    while True:
        group = a_group("ab", FIRST)
        b = group["b"]
        changed_unseen(b)
        kills = [at]

        def fault(method: str, paths: tuple[bytes, ...], kills: list[int] = kills) -> bool:
            if method != "commit":
                return False
            kills[0] -= 1
            return kills[0] < 0

        b.kill_before = fault
        b._guarded(lambda b=b, primary=primary: ask(b, primary=primary))  # type: ignore[misc]
        if not b.up:
            b.start()
        asked = b.catalog.meta(WHY_META) is not None
        assert asked == (at > 0), "it is one commit"
        for _ in range(20):
            group.run(2_000)
            if not b.up:
                b.start()
        b.kill_before = None
        group.heal()
        if asked:
            back_again(group)
            assert_tree(group, wanted)
            assert primary or kept(b) == [5, 11]
        if kills[0] >= 0:
            break
        at += 1
    assert at > 10, "it was killed at every commit"


def test_two_that_are_asked_at_once_do_not_wait_for_each_other() -> None:
    """Neither is complete any more: they found the folder anew, from both disks (11)."""
    group = a_group("ab", FIRST)
    for member in group.members.values():
        put(member, f"of {member.name}", 9 if member.name == "a" else 8)
        rejoin(member.running, member._new_replica(), primary=False, force=False, now_ms=member.now_ms)
    for member in group.members.values():
        member.stop()
        member.start()
    group.heal()
    assert_tree(group, FIRST | {"of a": 9, "of b": 8})
    assert_nothing_kept(group)


def test_it_is_refused_where_it_makes_no_sense() -> None:
    group = a_group("ab", FIRST)
    a, b = group["a"], group["b"]
    apart(group)
    group.run(5_000)
    assert "nobody to learn from" in refusal(b)
    group.heal()
    ask(b)
    assert "already" in refusal(b)
    assert "joining or rejoining" in refusal(b, primary=True)
    group.heal()
    for path in ("f", "g", "d/h", "d/e/i"):
        delete(a, path)
    assert "would be deleted on every member" in refusal(a, primary=True)
    alone = Group("a")
    alone.start_all()
    assert "first scan" in refusal(alone["a"])
    alone.run(5_000)
    assert "nobody to learn from" in refusal(alone["a"])
