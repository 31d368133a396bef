"""The histories of SCENARIOS that belong to what is built: each goes wrong without the rule in brackets.

Members are a, b, c, d. A number is a file's content. "Together" means before either has heard of the other's change.
"""

from __future__ import annotations

import errno

import pytest

from replicad.core.fetching import NO_SOURCE
from replicad.core.messages import BackfillRequest, ContentBackfill, ContentChange, Message
from replicad.core.records import DIRECTORY
from replicad.engine import exchange_asking
from replicad.engine.phases import Role
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import (
    a_group,
    apart,
    assert_nothing_kept,
    assert_tree,
    cut_off,
    delete,
    disk_tree,
    files,
    join,
    kept,
    move,
    put,
    records_of,
    remove_tree,
    started_apart,
    tree,
)
from tests.sim.user import User
from tests.sim.waits import TIMEOUT_MS, Waits

YEARS_MS = 10 * 365 * 24 * 3_600_000


def test_s1_a_copy_that_was_changed_before_the_first_contact_is_the_same_objects() -> None:
    """(6) Else the old `d` with all its files stands beside `e`."""
    same = {"d/f0": 0, "d/f1": 1, "d/f2": 2}
    group = started_apart({"a": same, "b": same, "c": same})
    a = group["a"]
    move(a, "d", "e")
    put(a, "e/f0", 201)
    delete(a, "e/f1")
    group.run(2_000)
    group.heal()
    assert_tree(group, {"e/f0": 201, "e/f2": 2})
    assert_nothing_kept(group)
    records = records_of(a.catalog)
    assert sum(len(record.cns()) for record in records) == 8


def test_s2_equal_disks_transfer_only_what_differs() -> None:
    """(6) Else churn, and duplicates."""
    same = {f"d/f{n}": n for n in range(5)}
    group = started_apart({"a": same | {"d/diff": 101}, "b": same | {"d/diff": 102}, "c": same | {"d/only": 103}})
    group.heal()
    found = tree(group["a"])
    assert found["d/diff"] in (101, 102)
    assert_tree(group, same | {"d/only": 103, "d/diff": found["d/diff"]})
    loser = "b" if found["d/diff"] == 101 else "a"
    assert {name: kept(group[name]) for name in "abc"} == {
        name: [203 - (found["d/diff"] or 0)] if name == loser else [] for name in "abc"
    }
    assert len(group.served) == 4, "`only` to a and b, the winner of `diff` to its loser and to c"
    held = [record for record in records_of(group["c"].catalog) if record.content and not record.content.gone]
    assert len(held) == 9, "no object twice: `d`, what is equal in it, `only`, and two that are called `diff`"


def test_s3_an_edit_that_was_deleted_by_who_made_it_does_not_save_what_was_before() -> None:
    group = a_group("ab", {"f": 101})
    a, b = group["a"], group["b"]
    apart(group)
    put(b, "f", 102)
    group.run(1_000)
    delete(b, "f")
    group.run(1_000)
    delete(a, "f")
    group.run(1_000)
    group.heal()
    assert_tree(group, {})


def test_s4_an_edit_beats_a_deletion_made_together_with_it() -> None:
    group = a_group("ab", {"f": 101})
    apart(group)
    put(group["b"], "f", 102)
    group.run(1_000)
    delete(group["a"], "f")
    group.run(1_000)
    group.heal()
    assert_tree(group, {"f": 102})


def test_s5_who_deletes_has_seen_what_was_on_the_disk_and_no_more() -> None:
    """(1) Else b's 102 is deleted by one who never saw it."""
    group = a_group("ab", {"f": 101})
    a, b = group["a"], group["b"]
    group.network.weather.fetch_loss = 1.0
    put(b, "f", 102)
    group.run(2_000)
    assert a.catalog.known == b.catalog.known
    assert tree(a) == {"f": 101}
    delete(a, "f")
    group.run(2_000)
    group.network.weather.fetch_loss = 0.0
    group.heal()
    assert_tree(group, {"f": 102})


def test_s6_a_removed_tree_is_gone_with_all_that_was_in_it() -> None:
    """(4)"""
    group = a_group("ab", {"d/x": 1})
    remove_tree(group["b"], "d")
    group.heal()
    assert_tree(group, {})


def test_s7_two_directories_of_one_name_are_renamed_as_one() -> None:
    """(3) Else `d/x` and `e/y`."""
    group = a_group("abc")
    apart(group)
    put(group["a"], "d/x", 1)
    put(group["b"], "d/y", 2)
    group.run(2_000)
    group.heal()
    assert_tree(group, {"d/x": 1, "d/y": 2})
    move(group["c"], "d", "e")
    group.heal()
    assert_tree(group, {"e/x": 1, "e/y": 2})
    assert_nothing_kept(group)


def test_s8_two_equal_files_of_one_name_are_edited_and_deleted_as_one() -> None:
    """(3) Else after the deletion `f=7` is back."""
    group = a_group("abc")
    apart(group)
    put(group["a"], "f", 7)
    put(group["b"], "f", 7)
    group.run(2_000)
    group.heal()
    put(group["c"], "f", 101)
    group.heal()
    assert_tree(group, {"f": 101})
    delete(group["c"], "f")
    group.heal()
    assert_tree(group, {})
    assert_nothing_kept(group)


def test_s9_a_directory_that_somebody_still_uses_outlives_its_last_child() -> None:
    """(5) Else `d` goes, though nobody deleted it since."""
    group = a_group("abc", {"d/x": 1})
    apart(group)
    remove_tree(group["a"], "d")
    put(group["b"], "d/n", 2)
    group.run(2_000)
    group.heal()
    assert_tree(group, {"d/n": 2})
    delete(group["c"], "d/n")
    group.heal()
    assert_tree(group, {"d": None})


def nested(c: bool = False) -> Group:
    group = a_group("abc" if c else "ab")
    for path in (b"top", b"top/z", b"top/z/y", b"top/x"):
        User(group["a"]).mkdir(path)
    group.heal()
    apart(group)
    move(group["a"], "top/x", "top/z/y/x")
    group.run(1_000)
    move(group["b"], "top/z", "top/x/z")
    group.run(1_000)
    group.heal()
    return group


def test_s10_of_two_moves_into_each_other_the_newest_falls_back() -> None:
    assert_tree(nested(), {"top/z/y/x": None})


def test_s11_a_move_beneath_a_cut_cycle_leaves_the_rest_where_the_user_sees_it() -> None:
    """(5) Else the cut moves: `z` hangs below `y/x`."""
    group = nested(c=True)
    move(group["c"], "top/z/y", "y")
    group.heal()
    assert_tree(group, {"top/z": None, "y/x": None})


def test_s12_a_version_that_was_seen_by_who_made_the_next_but_one_is_no_conflict() -> None:
    """(version vectors, not one predecessor)"""
    group = a_group("abc")
    put(group["c"], "f", 101)
    group.heal()
    cut_off(group, "c")
    put(group["b"], "f", 102)
    group.run(5_000)
    assert tree(group["a"]) == {"f": 102}
    put(group["a"], "f", 103)
    group.run(5_000)
    cut_off(group, "b")
    join(group, "a", "c")
    group.run(10_000)
    assert tree(group["c"]) == {"f": 103}
    group.heal()
    assert_tree(group, {"f": 103})
    assert_nothing_kept(group)


def test_s13_who_deletes_the_winner_of_a_name_does_not_bring_up_the_loser() -> None:
    """(3, and what counts as installed)"""
    group = a_group("abc")
    apart(group)
    put(group["a"], "n", 101)
    group.run(1_000)
    put(group["b"], "n", 102)
    group.run(1_000)
    group.heal()
    assert_tree(group, {"n": 102})
    assert kept(group["a"]) == [101]
    assert all(not member.catalog.pending_tally()[0] for member in group.members.values()), "backlog is 0"
    delete(group["c"], "n")
    group.heal()
    assert_tree(group, {})
    assert kept(group["a"]) == [101]


class HalfASwap:
    """a swaps two names while b is away; b gets the records one by one, with a long pause between the pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exchange_asking, "PAGE_RECORDS_MAX", 1)
        self.group = a_group("ab", {"a": 101, "b": 102})
        self.paused = True
        self.pages = 0
        apart(self.group)
        User(self.group["a"]).exchange(b"a", b"b")
        self.group.run(2_000)
        self.group.network.on_message = self._pause
        self.group.network.mend_all()

    def _pause(self, source: SimMember, target: SimMember, message: Message) -> bool:
        self.pages += isinstance(message, ContentBackfill)
        return not (isinstance(message, BackfillRequest) and self.pages and self.paused)

    def run_to_the_pause(self) -> None:
        self.group.run(10_000)
        assert self.pages == 1
        assert len(self.group["b"].catalog.known.minus(self.group["a"].catalog.known).encode()) == 0
        assert self.group["b"].catalog.known != self.group["a"].catalog.known, "one of two records has come"

    def go_on(self) -> None:
        self.paused = False
        self.group.network.reset("a", "b")


def test_s14_half_of_a_swap_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """(3, 7) Else `b` is preserved as a conflict's loser."""
    swap = HalfASwap(monkeypatch)
    swap.run_to_the_pause()
    assert tree(swap.group["b"]) == {"a": 101, "b": 102}
    swap.go_on()
    swap.group.heal()
    assert_tree(swap.group, {"a": 102, "b": 101})
    assert_nothing_kept(swap.group)


def test_s15_an_edit_in_the_middle_of_a_swap_stays_on_the_object_that_the_user_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """(7)"""
    swap = HalfASwap(monkeypatch)
    swap.run_to_the_pause()
    put(swap.group["b"], "a", 105)
    swap.group.run(2_000)
    swap.go_on()
    swap.group.heal()
    assert_tree(swap.group, {"a": 102, "b": 105})
    assert_nothing_kept(swap.group)


def test_s17_what_was_installed_before_a_crash_and_moved_before_the_start_is_one_object() -> None:
    """(8) Else the moved file is taken for a new one, and 102 installed once more at `c/a`."""
    group = a_group("ab")
    a, b = group["a"], group["b"]
    for name in (b"b", b"c"):
        User(b).mkdir(name)
    group.heal()
    installed = False

    def after_installing(method: str, paths: tuple[bytes, ...]) -> bool:
        nonlocal installed
        if installed:
            return True
        installed = method in ("rename", "exchange") and paths[-1] == b"c/a"
        return False

    a.kill_before = after_installing
    put(b, "c/a", 102)
    group.run(10_000)
    assert not a.up
    assert tree(a)["c/a"] == 102
    move(a, "c/a", "b/a")
    a.start()
    group.heal()
    assert_tree(group, {"b/a": 102, "c": None})
    put(b, "b/a", 105)
    group.heal()
    assert_tree(group, {"b/a": 105, "c": None})
    assert_nothing_kept(group)


def test_s18_a_page_does_not_make_known_what_was_superseded_and_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """(series) c hears from b alone, which has `x0` as its own edit; the pages break off, and b is gone for good."""
    monkeypatch.setattr(exchange_asking, "PAGE_RECORDS_MAX", 2)
    group = a_group("abc")
    a, b, c = group["a"], group["b"], group["c"]
    cut_off(group, "c")
    for number in range(20):
        put(a, f"x{number}", number)
    group.run(30_000)
    assert len(tree(b)) == 20
    apart(group)
    put(b, "x0", 100)
    group.run(2_000)
    pages = 0

    def count(source: SimMember, target: SimMember, message: Message) -> bool:
        nonlocal pages
        pages += isinstance(message, ContentBackfill)
        return not isinstance(message, ContentBackfill) or pages < 5

    group.network.on_message = count
    join(group, "b", "c")
    group.run(20_000)
    assert 0 < len(records_of(c.catalog)) < 20
    c.crash()
    group.retire("b")
    group.network.on_message = lambda source, target, message: True
    group.heal()
    assert_tree(group, {f"x{number}": number for number in range(20)})


def test_s20_a_clock_that_was_ten_years_ahead_freezes_nothing() -> None:
    """(a stamp for each register, not one clock for all)"""
    group = a_group("ab", {"f": 101, "g": 1})
    a, b = group["a"], group["b"]
    a.set_clock(YEARS_MS)
    put(a, "f", 102)
    group.heal()
    a.stop()
    a.set_clock(0)
    a.start()
    group.heal()
    put(b, "f", 103)
    put(a, "g", 2)
    group.heal()
    assert_tree(group, {"f": 103, "g": 2})
    times = {r.place.name: r.content.time_ms for r in records_of(a.catalog) if r.place and r.content}
    assert times[b"f"] > b.now_ms + YEARS_MS // 2
    assert times[b"g"] <= b.now_ms, "other files keep stamps of the present"


def test_s23_a_loser_that_nobody_saw_is_preserved_where_it_is() -> None:
    """(3, the empty version vector)"""
    group = a_group("abc")
    a, b, c = group["a"], group["b"], group["c"]
    apart(group)
    put(a, "n", 101)
    group.run(2_000)
    put(b, "n", 102)
    group.run(2_000)
    group.network.weather.fetch_loss = 1.0
    join(group, "a", "c")
    group.run(5_000)
    assert c.catalog.known.contains_all(a.catalog.known)
    cut_off(group, "a")
    group.network.weather.fetch_loss = 0.0
    join(group, "b", "c")
    group.run(60_000)
    assert tree(c) == {"n": 102}
    delete(c, "n")
    group.run(10_000)
    assert tree(b) == {}
    group.heal()
    assert_tree(group, {})
    assert kept(a) == [101]


def test_s24_a_series_that_breaks_off_for_good_holds_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """(7, its end)"""
    monkeypatch.setattr(exchange_asking, "PAGE_RECORDS_MAX", 1)
    group = a_group("abc", {"z": 1, "busy": 0, "p": 2, "q": 3})
    a, b, c = group["a"], group["b"], group["c"]
    cut_off(group, "c")
    move(c, "p", "p2")
    move(c, "q", "q2")
    group.run(2_000)
    pages = 0

    def first_page_only(source: SimMember, target: SimMember, message: Message) -> bool:
        nonlocal pages
        pages += isinstance(message, ContentBackfill)
        return not isinstance(message, ContentBackfill) or pages < 2

    group.network.on_message = first_page_only
    join(group, "a", "c")
    group.run(5_000)
    assert a.running.exchange.any_unsettled, "the first of two pages has come"
    group.retire("c")
    group.network.on_message = lambda source, target, message: True
    group.run(2_000)
    delete(b, "z")
    for number in range(6):
        put((a, b)[number % 2], "busy", 10 + number)
        group.run(10_000)
    assert "z" not in tree(a)
    for number in range(180):
        put((a, b)[number % 2], "busy", 100 + number)
        group.run(10_000)
    for member in (a, b):
        assert not member.running.exchange.any_unsettled, f"{member.name} is unsettled"
        assert not member.catalog.pending(1), f"{member.name} has not installed what came"
    group.heal()
    assert_tree(group, {"p2": 2, "q": 3, "busy": 279} if "p2" in tree(a) else {"p": 2, "q2": 3, "busy": 279})


def test_s25_what_a_removed_member_wrote_before_is_taken_from_whoever_passes_it_on() -> None:
    """(DESIGN section 4: refused at the door only)"""
    group = a_group("abr")
    a, b, r = group["a"], group["b"], group["r"]
    cut_off(group, "r")
    a.barred.add("r")
    join(group, "b", "r")
    put(r, "last", 1)
    group.run(10_000)
    b.barred.add("r")
    group.retire("r")
    group.heal()
    assert_tree(group, {"last": 1})
    assert a.catalog.known == b.catalog.known


def test_s26_equal_bytes_with_other_modes_and_times_become_one_value_without_a_change() -> None:
    """(stamps: the greater encoding; 2)"""
    group = Group("abc")
    apart(group)
    for number, member in enumerate(group.members.values()):
        put(member, "f", 7)
        User(member).chmod(b"f", (0o600, 0o644, 0o640)[number])
        User(member).touch(b"f", (1_600_000_000 + (5, 9, 1)[number]) * 10**9)
    group.start_all()
    group.run(5_000)
    made = {member.name: member.catalog.counter for member in group.members.values()}
    group.heal()
    assert_tree(group, {"f": 7})
    assert len({disk_tree(member)[b"f"] for member in group.members.values()}) == 1
    assert {member.name: member.catalog.counter for member in group.members.values()} == made
    assert group.served == []
    group.check_quiet()


def test_s30_an_edit_that_an_exchange_brought_out_survives_a_crash() -> None:
    """(8) Else it lies in staging under the other's name, and is cleaned away."""
    group = a_group("ab", {"f": 101})
    a, b = group["a"], group["b"]
    seen: list[str] = []

    def edit_then_kill(method: str, paths: tuple[bytes, ...]) -> bool:
        if seen:
            return True
        if method == "exchange" and b"f" in paths:
            put(a, "f", 103)
            seen.append(method)
        return False

    a.kill_before = edit_then_kill
    put(b, "f", 102)
    group.run(10_000)
    assert seen, "nothing was exchanged"
    assert not a.up
    a.start()
    group.heal()
    group.check()
    live = tree(a)["f"]
    assert live in (102, 103)
    assert live == 103 or 103 in kept(a)


def test_s32_a_directory_that_holds_what_is_not_replicated_stays_and_says_why() -> None:
    """(12)"""
    group = a_group("ab", {"d/x": 1})
    a, b = group["a"], group["b"]
    b.fs.user_fifo(b"d/fifo")
    group.run(5_000)
    remove_tree(a, "d")
    group.run(120_000)
    assert tree(a) == {}
    assert tree(b) == {"d": None}
    assert b.fs.stat(b"d/fifo") is not None
    assert [path for path, _ in b.running.blocked()] == [b"d", b"d/fifo"]
    handled = group.counts["events handled"]
    group.run(600_000)
    assert group.counts["events handled"] - handled < 400, "it retries all the time"
    b.fs.user_unlink(b"d/fifo")
    group.heal()
    assert_tree(group, {})


def test_s33_what_loses_its_name_to_another_object_is_preserved() -> None:
    """(9) Else 7 is lost: every version vector seemed to contain it."""
    group = started_apart({"a": {"f": 7}, "b": {}})
    put(group["b"], "f", 8)
    group.run(2_000)
    group.heal()
    assert_tree(group, {"f": 8})
    assert kept(group["a"]) == [7]
    assert kept(group["b"]) == []


def test_s34_what_is_moved_over_is_judged_by_its_own_history() -> None:
    """(9) Else b's `n` is destroyed: a version vector of `m` was held against it."""
    group = a_group("abc", {"m": 1})
    b, c = group["b"], group["c"]
    put(b, "m", 2)
    group.heal()
    cut_off(group, "c")
    put(b, "n", 5)
    group.run(5_000)
    move(c, "m", "n")
    group.run(2_000)
    group.heal()
    assert_tree(group, {"n": 2})
    assert kept(b) == [5]


def test_s38_who_joins_with_a_copy_while_the_creator_is_away_transfers_nothing() -> None:
    """(11, a complete member)"""
    data = {f"d/f{n}": n for n in range(5)}
    group = Group("abc", roles={"b": Role.JOINER, "c": Role.JOINER})
    for member in group.members.values():
        for path, number in data.items():
            put(member, path, number)
    group["a"].start()
    group.run(5_000)
    group["a"].stop()
    group["b"].start()
    group["c"].start()
    group.run(60_000)
    group["a"].start()
    group.heal()
    assert_tree(group, data)
    assert_nothing_kept(group)
    assert group.served == []


def test_who_joined_with_a_copy_of_a_large_file_gives_it_to_others() -> None:
    """It was never fetched and never found by a scan of a member that takes part; it has a manifest all the same."""
    group = Group("abc", roles={"b": Role.JOINER, "c": Role.JOINER})
    a, b, c = (group[name] for name in "abc")
    for member in (a, b):
        User(member).write(b"large", b"0" * 300_000)
    a.start()
    group.run(5_000)
    b.start()
    group.run(60_000)
    cut_off(group, "a")
    c.start()
    group.run(120_000)
    assert files(c) == {b"large": b"0" * 300_000}
    assert {name for name, _ in group.served} == {"b"}


def test_s40_who_restarts_alone_and_changes_things_goes_on_with_the_same_objects() -> None:
    """(put back) Else new objects, or a false alarm."""
    group = a_group("abc", {"d/f": 1, "g": 2, "h": 3})
    a = group["a"]
    objects = {record.uid for record in records_of(a.catalog)}
    for turn in range(2):
        a.stop()
        for name in "bc":
            group[name].stop()
        put(a, "g", 10 + turn)
        a.start()
        group.run(30_000)
        put(a, "d/f", 20 + turn)
        group.run(10_000)
        assert a.running.state.state == 4
        group.heal()
        assert_tree(group, {"d/f": 20 + turn, "g": 10 + turn, "h": 3})
    assert {record.uid for record in records_of(group["b"].catalog)} == objects
    assert_nothing_kept(group)


def test_a_loser_that_comes_up_again_is_brought_back_by_whoever_preserved_it() -> None:
    """b has not heard of a's `n` when it moves its own away; by then a has preserved its own, and only a has it."""
    group = a_loser_hidden_on_a()
    group.heal()
    assert_tree(group, {"m": 102, "n": 101})
    assert kept(group["a"]) == [101], "it stays with the operator, too"


def test_a_loser_that_comes_up_again_is_had_from_one_that_cannot_install_it() -> None:
    """a has preserved it, and its disk takes nothing where it should be. So its status never shows the content, and by
    the time it can be fetched it is long since a pushed the record."""
    group = a_loser_hidden_on_a()
    a, b, c = (group[name] for name in "abc")

    def takes_nothing_there(method: str, paths: tuple[bytes, ...]) -> bool:
        if method in ("rename", "exchange") and paths[-1] == b"n":
            raise OSError(errno.EIO, "as the test wants it")
        return False

    a.kill_before = takes_nothing_there
    group.network.weather.fetch_loss = 1.0
    group.network.mend_all()
    group.run(10_000)
    cut_off(group, "a")
    group.run(10_000)
    group.network.weather.fetch_loss = 0.0
    group.network.mend_all()
    group.run(60_000)
    assert tree(b) == tree(c) == {"m": 102, "n": 101}
    assert tree(a) == {"m": 102}
    a.kill_before = None
    group.heal()
    assert_tree(group, {"m": 102, "n": 101})


def test_a_loser_that_an_operator_has_thrown_away_is_waited_for() -> None:
    """It cannot be had, and that is said; the others are not held up, and a new version ends it."""
    group = a_loser_hidden_on_a()
    a, b, c = (group[name] for name in "abc")
    (stored,) = [path for path in files(a, private=True) if path.startswith(b".replicad/ConflictAndDeleted/")]
    a.fs.user_unlink(stored)
    group.ledger.took_off(a, b"101")
    group.network.mend_all()
    put(c, "x", 1)
    group.run(120_000)
    assert tree(a) == tree(b) == tree(c) == {"m": 102, "x": 1}
    assert {tuple(one.running.blocked()) for one in (b, c)} == {((b"n", NO_SOURCE),)}
    put(c, "n", 103)
    group.heal()
    assert_tree(group, {"m": 102, "n": 103, "x": 1})


def a_loser_hidden_on_a() -> Group:
    """a and b made `n` together; b's won, and was moved to `m` by b, who has heard nothing of a's, 101, as yet."""
    group = a_group("abc")
    a, b = group["a"], group["b"]
    apart(group)
    put(a, "n", 101)
    group.run(1_000)
    put(b, "n", 102)
    group.run(1_000)
    pages = (ContentBackfill, ContentChange)
    group.network.on_message = lambda source, target, message: source is not a or not isinstance(message, pages)
    group.network.mend_all()
    group.run(60_000)
    assert tree(a) == {"n": 102}
    assert kept(a) == [101]
    cut_off(group, "a")
    move(b, "n", "m")
    group.run(5_000)
    group.network.on_message = lambda source, target, message: True
    return group


def test_a_backup_that_an_editor_leaves_is_not_what_others_delete() -> None:
    """A file is renamed and its name is taken by a new one before anybody looks: the object stays at its name, and what
    was renamed is a copy. Whoever deletes the object elsewhere has not seen that."""
    group = a_group("ab", {"f": 101})
    a, b = group["a"], group["b"]
    apart(group)
    b.stop()
    move(b, "f", "backup")
    put(b, "f", 102)
    delete(a, "f")
    group.run(1_000)
    b.start()
    group.heal()
    assert_tree(group, {"f": 102, "backup": 101})


def test_a_backup_is_one_though_the_new_file_has_a_content_that_was_there_before() -> None:
    """As above: that the replica has seen the content of the new file elsewhere does not make the file a known one."""
    group = a_group("ab", {"f": 101, "x": 7})
    a, b = group["a"], group["b"]
    apart(group)
    b.stop()
    move(b, "f", "backup")
    put(b, "f", 7)
    delete(a, "f")
    group.run(1_000)
    b.start()
    group.heal()
    assert_tree(group, {"f": 7, "backup": 101, "x": 7})


def test_a_directory_that_is_kept_has_one_mode_everywhere() -> None:
    """(I1) It is gone by its own record, which says nothing of a mode unless who deleted it wrote it down."""
    group = a_group("abc", {"d/x": 1})
    a, b = group["a"], group["b"]
    cut_off(group, "b")
    remove_tree(a, "d")
    group.run(5_000)
    assert tree(group["c"]) == {}
    put(b, "d/n", 2)
    group.run(2_000)
    group.heal()
    modes = {member.name: disk_tree(member)[b"d"] for member in group.members.values()}
    assert set(modes.values()) == {(DIRECTORY, 0o755)}, modes


def test_a_clock_that_is_set_back_by_ten_years_holds_nothing_up() -> None:
    """Else a gap is asked for, and a status sent, in ten years."""
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    group.network.on_message = lambda source, target, message: not isinstance(message, ContentChange | BackfillRequest)
    put(a, "f", 2)
    group.run(10_000)
    assert b.running.exchange.backfill_entries(), "the gap waits until it is asked for again"
    b.set_clock(-YEARS_MS)
    group.network.on_message = lambda source, target, message: True
    group.run(5 * 60_000)
    assert tree(b) == {"f": 2}


def test_a_wait_is_given_up_in_time_though_the_clock_is_set_back() -> None:
    group = a_group("ab", {"f": 1})
    a = group["a"]
    waits = Waits(group)
    apart(group)
    group.run(1_000)
    waits.begin(a)
    group.run(1_000)
    a.set_clock(-YEARS_MS)
    group.run(TIMEOUT_MS)
    assert group.counts["wait ended with 1"] == 1


def test_a_wait_ends_though_writes_never_do() -> None:
    """It waits for what was there when it began; the disk is never at rest, and deletions are among the writes."""
    group = a_group("ab", {"first": 1})
    a, b = group["a"], group["b"]
    waits = Waits(group)
    began_ms = 0
    for number in range(600):
        put(a, f"f{number % 40}", number)
        if number % 3 == 0:
            delete(a, f"f{number % 40}")
        if number == 100:
            began_ms = group.clock.now_ms
            waits.begin(b)
        group.run(4)
        if waits.done:
            break
    assert waits.done == 1, "the writes ended before the wait"
    assert group.clock.now_ms - began_ms < 2_000


def test_a_deletion_is_told_though_others_never_end() -> None:
    """Whenever the watch has told everything up to one, there has been another."""
    group = a_group("ab", {"f": 1} | {f"n{number}": number for number in range(400)})
    a, b = group["a"], group["b"]
    delete(b, "f")
    for number in range(400):
        delete(b, f"n{number}")
        group.run(1)
        if "f" not in tree(a):
            return
    raise AssertionError("the others ended before it was told")


def test_a_deletion_is_told_though_edits_never_end() -> None:
    """Whenever the watch has told everything up to it, another file has been edited since it was looked at."""
    group = a_group("ab", {"f": 1, "g": 1})
    a, b = group["a"], group["b"]
    delete(b, "f")
    for number in range(400):
        put(b, "g", number)
        group.run(1)
        if "f" not in tree(a):
            return
    raise AssertionError("the edits ended before it was told")


def test_a_deletion_is_told_though_renames_never_end() -> None:
    """As they happen where editors save: one name over another, which is decided with what is missing."""
    group = a_group("ab", {"f": 1, "g": 1, "h": 2})
    a, b = group["a"], group["b"]
    delete(b, "f")
    for number in range(400):
        put(b, "new", number)
        move(b, "new", "g" if number % 2 else "h")
        group.run(1)
        if "f" not in tree(a):
            return
    raise AssertionError("the renames ended before it was told")


def test_a_wait_ends_though_edits_never_do_and_something_was_deleted() -> None:
    """Each file rests for long enough to be fetched; the folder never does."""
    group = a_group("ab", {"f": 1} | {f"g{number}": 1 for number in range(400)})
    a, b = group["a"], group["b"]
    waits = Waits(group)
    delete(b, "f")
    waits.begin(a)
    for number in range(2_000):
        put(b, f"g{number % 400}", number)
        group.run(1)
        if waits.done:
            break
    assert waits.done == 1, "the edits ended before the wait"
    assert "f" not in tree(a)
