"""Members that have lapsed, and come back (docs/safety.md, section 6), with the hierarchy that says so. Members are a,
b, c, d. A number is a file's content.
"""

from __future__ import annotations

from replicad.core.lapsing import CONTACT_MS
from replicad.engine.phases import Phase
from tests.sim.group import HOUR_MS, Group
from tests.sim.hierarchy import SimKeeper, with_hierarchy
from tests.sim.member import SimMember
from tests.sim.script import assert_tree, cut_off, delete, join, kept, put, remove_tree
from tests.sim.test_safety import LIFETIME_MS, MINUTE_MS, collected

LIMIT_MS = 80 * MINUTE_MS
"""How long a member may be away here."""


def a_group(names: str, first: dict[str, int], *, limit_ms: int = LIMIT_MS) -> tuple[Group, dict[str, SimKeeper]]:
    group = Group(names, tombstone_lifetime_ms=LIFETIME_MS)
    keepers = with_hierarchy(group, offline_limit_ms=limit_ms)
    group.start_all()
    group.run(2_000)
    for path, number in first.items():
        put(group[names[0]], path, number)
    group.heal()
    return group, keepers


def lapsed(keeper: SimKeeper) -> str:
    infos = keeper.running.reading().members
    return "".join(sorted(infos[member].name for member in keeper.lapsed))


def stale_reports(group: Group) -> int:
    return sum("away for longer" in report.text for member in group.members.values() for report in member.reports)


def test_s22_two_halves_whose_operators_gave_each_other_up_bring_nothing_back() -> None:
    """(stale, lapsed) Else x and y come back by way of b and d, or n's parent is asked for for ever."""
    group, keepers = a_group("abcd", {"x": 1, "y": 2, "d/m": 3, "z": 4}, limit_ms=1_000 * HOUR_MS)
    a, b, c, d = (group[name] for name in "abcd")
    for one in "ab":
        for other in "cd":
            group.network.cut(one, other)
            group.network.cut(other, one)
    group.run(MINUTE_MS)
    keepers["a"].lapse("c", "d")
    keepers["d"].lapse("a", "b")
    delete(c, "x")
    delete(a, "y")
    remove_tree(a, "d")
    group.run(MINUTE_MS)
    assert [lapsed(keepers[name]) for name in "abcd"] == ["cd", "cd", "ab", "ab"]
    collected(group, "a", "b")
    put(c, "d/n", 5)
    group.run(MINUTE_MS)
    collected(group, "c", "d")
    join(group, "a", "c")
    group.run(5 * MINUTE_MS)
    assert {lapsed(keeper) for keeper in keepers.values()} == {""}, "all are back, b and d by way of those two"
    group.heal()
    assert_tree(group, {"z": 4})
    assert 5 in kept(c) + kept(d)
    assert 1 in kept(a) + kept(b)
    assert 2 in kept(c) + kept(d)
    before = stale_reports(group)
    delete(b, "z")
    group.heal()
    collected(group)
    group.run(5 * MINUTE_MS)
    assert stale_reports(group) == before, "the next collection makes nobody stale"
    assert all(member.running.phase is Phase.TAKING_PART for member in group.members.values())
    assert_tree(group, {})


def test_s35_two_of_three_declare_the_third_lapsed_and_forget() -> None:
    """(lapsed: more than half, counting oneself) Else collection is blocked until an operator comes."""
    group, keepers = a_group("abc", {"f": 1, "g": 2})
    group["c"].crash()
    delete(group["a"], "f")
    group.run(LIMIT_MS - 5 * MINUTE_MS)
    assert lapsed(keepers["a"]) == ""
    assert group["b"].catalog.tombstones(2**62, (-1, b""), 10), "it is still waited for"
    group.run(10 * MINUTE_MS)
    assert lapsed(keepers["a"]) == lapsed(keepers["b"]) == "c"
    collected(group, "a", "b")
    group.heal()
    assert_tree(group, {"g": 2})
    assert kept(group["c"]) == [1]
    assert lapsed(keepers["a"]) == lapsed(keepers["c"]) == ""


def test_one_of_two_declares_nobody_lapsed() -> None:
    group, keepers = a_group("ab", {"f": 1})
    group["b"].crash()
    group.run(LIMIT_MS * 2)
    assert lapsed(keepers["a"]) == ""


def test_a_member_that_others_see_has_not_lapsed() -> None:
    """c is reached by b alone; then by nobody, and that counts from when b last saw it."""
    group, keepers = a_group("abc", {"f": 1})
    group.network.cut("c", "a")
    group.network.cut("a", "c")
    group.run(LIMIT_MS + 10 * MINUTE_MS)
    assert lapsed(keepers["a"]) == ""
    cut_off(group, "c")
    group.run(LIMIT_MS - 5 * MINUTE_MS)
    assert {lapsed(keepers[name]) for name in "ab"} == {""}
    group.run(10 * MINUTE_MS)
    assert {lapsed(keepers[name]) for name in "ab"} == {"c"}


def test_members_that_all_were_switched_off_for_long_find_together_again() -> None:
    """Those that are up first wait for the others before they call them lapsed."""
    group, keepers = a_group("abc", {"f": 1})
    for member in group.members.values():
        member.crash()
    group.run(3 * LIMIT_MS)
    for name in "ab":
        group[name].start()
    group.run(CONTACT_MS - 10 * MINUTE_MS)
    assert lapsed(keepers["a"]) == ""
    group["c"].start()
    group.run(CONTACT_MS)
    assert lapsed(keepers["a"]) == ""


def test_clocks_that_disagree_make_nobody_lapse() -> None:
    group, keepers = a_group("abc", {"f": 1})
    group["c"].crash()
    group["a"].set_clock(LIMIT_MS * 2)
    group.run(CONTACT_MS * 3 // 2)
    assert lapsed(keepers["a"]) == lapsed(keepers["b"]) == ""


def test_a_member_that_was_given_up_and_has_missed_nothing_goes_on() -> None:
    """No rejoining: what it made while it was away is taken as it is."""
    group, keepers = a_group("abc", {"f": 1})
    c = group["c"]
    cut_off(group, "c")
    group.run(MINUTE_MS)
    keepers["a"].lapse("c")
    put(c, "new", 2)
    put(group["b"], "other", 3)
    group.run(MINUTE_MS)
    assert lapsed(keepers["b"]) == "c"
    group.heal()
    group.run(10_000)
    assert_tree(group, {"f": 1, "new": 2, "other": 3})
    assert lapsed(keepers["a"]) == lapsed(keepers["c"]) == ""
    assert stale_reports(group) == 0


def test_a_returning_member_is_living_before_it_takes_part() -> None:
    """Else what is deleted as it comes back is forgotten without it, and it is stale at once."""
    group, keepers = a_group("abc", {"f": 1, "g": 2})
    c = group["c"]
    cut_off(group, "c")
    group.run(MINUTE_MS)
    keepers["a"].lapse("c")
    delete(group["a"], "f")
    collected(group, "a", "b")
    seen: list[tuple[Phase, bool]] = []

    def note(member: SimMember) -> None:
        if c.up:
            seen.append((c.running.phase, any("living again" in report.text for report in c.reports)))

    group.on_handled = note
    group.heal()
    first = next(at for at, (phase, _) in enumerate(seen) if phase is Phase.COMPARING)
    assert seen[first:][-1] == (Phase.TAKING_PART, True)
    assert (Phase.TAKING_PART, False) not in seen[first:]
    assert_tree(group, {"g": 2})
    assert kept(c) == [1]


def test_one_that_was_put_back_and_has_lapsed_comes_back_between_two_halves_that_have_forgotten_apart() -> None:
    """a and d have forgotten x; b and e, apart from them, y; c reaches a and b."""
    group, keepers = a_group("abcde", {"x": 1, "y": 2, "z": 4}, limit_ms=1_000 * HOUR_MS)
    a, b, c = (group[name] for name in "abc")
    apart = [(one, other) for one in "ad" for other in "be"] + [("c", other) for other in "de"]
    for one, other in apart:
        group.network.cut(one, other)
        group.network.cut(other, one)
    backup = c.database.copy()
    put(c, "w", 9)
    group.run(MINUTE_MS)
    c.crash()
    cut_off(group, "c")
    group.run(MINUTE_MS)
    keepers["a"].lapse("b", "c", "e")
    keepers["b"].lapse("a", "c", "d")
    delete(a, "x")
    delete(b, "y")
    group.run(MINUTE_MS)
    collected(group, "a", "d")
    collected(group, "b", "e")
    c.put_catalog_back(backup, home=False)
    c.start()
    join(group, "a", "c")
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    assert [lapsed(keeper) for keeper in keepers.values()] == [""] * 5
    assert {member.running.phase for member in group.members.values()} == {Phase.TAKING_PART}
    group.heal()
    assert_tree(group, {"w": 9, "z": 4})
    assert kept(c) == [1, 2]
