"""What users and the world do to a folder's directory, on simulated members: each heals, or waits for an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from replicad.core.effects import Effect
from replicad.core.fetching import NO_SOURCE
from replicad.core.records import FILE
from replicad.engine.abandoning import HeldElsewhereError, abandon_path
from replicad.engine.deciding import decide
from replicad.engine.folder import FolderReplica
from replicad.engine.phases import IN_ERROR, NORMAL, Phase
from replicad.engine.polling import POLL_INTERVAL_MS, SILENT
from replicad.errors import OperatorError
from replicad.files.changes import RootGone
from tests.sim.ailing import copied, empty_tree
from tests.sim.group import Group
from tests.sim.ledger import records_of
from tests.sim.member import SimMember
from tests.sim.memory_tree import Tree as MemoryTree
from tests.sim.script import (
    Tree,
    a_group,
    assert_nothing_kept,
    assert_tree,
    cut_off,
    delete,
    kept,
    put,
    remove_tree,
    tree,
)

TEN = {f"d/f{n}": n for n in range(10)}
HOUR_MS = 3_600_000


def remove_private(member: SimMember) -> None:
    """`git clean -fdx`."""
    member.fs.user_remove_tree(b".replicad")


def assert_settled(group: Group, expected: Tree) -> None:
    """As `assert_tree`, but that what a user took off may be back: an operator wanted it."""
    for member in group.members.values():
        assert tree(member) == dict(sorted(expected.items())), f"on {member.name}"
    group.check_converged()
    group.check_knowledge()
    group.check_nothing_lost()


def told(member: SimMember, text: str) -> int:
    return sum(text in report.text for report in member.reports)


def decided(member: SimMember, *, approve: bool) -> None:
    """`replicad hold approve | reject`, as the daemon carries it out."""

    def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        decide(replica, approve=approve, now_ms=now_ms)
        return ()

    member.act(act)
    member.stop()
    member.start()


def abandoned(member: SimMember, path: str, *, force: bool = False) -> tuple[int, int]:
    """`replicad abandon PATH`: how many were kept, how many are gone."""
    found = []

    def act(replica: FolderReplica, now_ms: int) -> Sequence[Effect]:
        names = {other.id: other.name for other in member.group.members.values() if other is not member}
        done, effects = abandon_path(replica, path.encode(), names, {}, force=force, now_ms=now_ms)
        found.append((done.kept, done.gone))
        return effects

    member.act(act)
    return found[0]


# -- `.replicad` is removed


@pytest.mark.parametrize("stopped", [False, True])
def test_i6_a_marker_is_written_again_in_the_same_directory_with_half_of_its_entries(stopped: bool) -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    if stopped:
        a.stop()
    remove_private(a)
    for number in range(5):
        delete(a, f"d/f{number}")
    if stopped:
        a.start()
    group.run(5_000)
    assert a.running.state.state == NORMAL
    assert told(a, "it has been made again, as this is the same directory") == 1
    put(a, "d/new", 10)
    group.heal()
    assert_tree(group, {f"d/f{n}": n for n in range(5, 10)} | {"d/new": 10})


def test_i6_a_directory_that_lost_its_marker_and_most_of_its_entries_waits_for_an_operator() -> None:
    group = a_group("ab", TEN)
    a, b = group["a"], group["b"]
    remove_private(a)
    remove_tree(a, "d")
    put(a, "new", 11)
    put(b, "theirs", 12)
    group.run(HOUR_MS)
    assert a.running.state.state == IN_ERROR
    assert a.running.held
    hold = a.running.hold
    assert hold is not None
    assert (hold.there, hold.looked_for) == (0, 11)
    assert "root marker is missing" in hold.reason
    assert tree(b) == {"d": None, **TEN, "theirs": 12}
    assert tree(a) == {"new": 11}
    assert told(a, "only 0 of 11 entries") <= 61, "it is not searched at every look"


@pytest.mark.parametrize("ms", [0, 5, 20, 60, 150])
def test_a_marker_that_goes_while_files_arrive_holds_nothing_up_for_good(ms: int) -> None:
    group = a_group("ab", TEN)
    a, b = group["a"], group["b"]
    for number in range(20):
        put(b, f"d/f{number}", 100 + number)
    while not a.fetching:
        group.run(1)
    group.run(ms)
    remove_private(a)
    group.heal()
    assert_tree(group, {f"d/f{n}": 100 + n for n in range(20)})


def test_a_directory_to_which_its_entries_come_back_is_marked_again() -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    remove_private(a)
    a.fs.user_rename(b"d", b"e")
    group.run(5_000)
    assert a.running.state.state == IN_ERROR
    a.fs.user_rename(b"e", b"d")
    group.run(90_000)
    assert a.running.state.state == NORMAL
    group.heal()
    assert_tree(group, TEN)


def test_what_an_operator_approves_is_the_folder_and_what_is_missing_there_is_deleted() -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    remove_private(a)
    remove_tree(a, "d")
    put(a, "new", 11)
    group.run(10_000)
    decided(a, approve=True)
    group.heal()
    assert_tree(group, {"new": 11})


def test_what_an_operator_rejects_goes_to_preexisting_and_the_folder_comes_back() -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    remove_private(a)
    remove_tree(a, "d")
    put(a, "d/f3", 3)
    put(a, "d/f4", 104)
    put(a, "new", 11)
    group.run(10_000)
    decided(a, approve=False)
    group.heal()
    assert kept(a) == [11, 104]
    assert_settled(group, {"d": None, **TEN})


def covered(group: Group, member: SimMember, other: MemoryTree | None) -> Callable[[], None]:
    """Another disk is at its folder's path, under the running daemon; what uncovers it again."""
    fs = member.fs
    own, uuid = fs.tree, fs.uuid
    fs.in_place = False
    member.post(RootGone("mounts have changed"))
    group.run(5_000)
    assert not fs.is_open, "nothing keeps it mounted"
    fs.in_place, fs.tree, fs.uuid = True, other or empty_tree(fs), b"of another disk."
    group.run(5_000)
    assert member.running.held

    def uncover() -> None:
        fs.tree, fs.uuid = own, uuid

    return uncover


def test_i6_an_empty_mount_point_is_not_approved_and_deletes_nothing() -> None:
    group = a_group("ab", TEN)
    a = group["a"]
    uncover = covered(group, a, None)
    with pytest.raises(OperatorError, match="nothing at the folder's path"):
        decided(a, approve=True)
    uncover()
    group.run(20_000)
    assert a.fs.is_open, "it is opened again by itself"
    put(a, "new", 11)
    group.heal()
    assert_settled(group, {"d": None, **TEN, "new": 11})


@pytest.mark.parametrize("approve", [True, False])
def test_i6_what_an_operator_decides_of_another_disk_holds_for_that_disk(approve: bool) -> None:
    """And nothing is decided of the one that it covers."""
    group = a_group("ab", TEN)
    a = group["a"]
    copy = copied(a.fs.tree)
    put(a, "d/f1", 101)
    group.heal()
    covered(group, a, copy)
    remove_tree(a, "d/f0")
    put(a, "other", 11)
    decided(a, approve=approve)
    group.heal()
    if approve:
        assert "d/f0" not in tree(group["b"])
        assert tree(group["b"])["other"] == 11
    else:
        assert_settled(group, {"d": None, **TEN, "d/f1": 101})
        assert kept(a) == [1, 11]


@pytest.mark.parametrize("calls", [1, 2, 5, 9])
def test_i12_a_rejection_that_is_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    monkeypatch.setattr("replicad.engine.holds.FORGOTTEN_A_STEP", 3)
    group = a_group("ab", TEN)
    a = group["a"]
    a.stop()
    remove_private(a)
    remove_tree(a, "d")
    put(a, "d/f1", 101)
    a.start()
    decided(a, approve=False)
    assert a.running.phase is Phase.FORGETTING
    a.fault_in = calls
    group.run(10_000)
    group.heal()
    assert kept(a) == [101]
    assert_settled(group, {"d": None, **TEN})


def test_where_nothing_is_held_there_is_nothing_to_decide() -> None:
    group = a_group("ab", TEN)
    with pytest.raises(OperatorError, match="nothing waits for a decision"):
        decided(group["a"], approve=True)


def test_a_folder_whose_root_is_away_waits_quietly_and_goes_on_when_it_is_back() -> None:
    """Also with a file that came out of the tree a moment ago, which cannot be looked after meanwhile."""
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    put(b, "f", 2)
    while not a.catalog.outs(2**62, 1):
        group.run(10)
    a.fs.in_place = False
    group.run(600_000)
    assert "replicad folder move" in a.running.state.reason
    assert not a.fs.is_open, "nothing keeps its disk from being unmounted"
    assert not a.running.held
    put(b, "g", 3)
    group.run(5_000)
    assert tree(a) == {"f": 2}
    assert a.catalog.pending_tally()[0] == 1, "what the others have is known all the same"
    a.fs.in_place = True
    group.heal()
    assert_tree(group, {"f": 2, "g": 3})


# -- events that never arrive


def test_a_filesystem_whose_events_never_arrive_is_polled_and_said_to_be() -> None:
    group = a_group("ab", {"f": 1})
    a, b = group["a"], group["b"]
    a.stop()
    a.start()
    a.watch.deaf = True
    group.run(15_000)
    assert a.running.disk.polled == SILENT
    assert told(a, SILENT) == 1
    put(a, "new", 2)
    put(a, "f", 3)
    group.run(2 * POLL_INTERVAL_MS)
    assert tree(b) == {"f": 3, "new": 2}
    delete(a, "f")
    group.run(2 * POLL_INTERVAL_MS)
    assert tree(b) == {"new": 2}
    a.watch.deaf = False
    group.run(2 * POLL_INTERVAL_MS)
    assert a.running.disk.polled == ""
    group.heal()
    assert_tree(group, {"new": 2})
    group.check_quiet(600_000)


def test_what_cannot_be_watched_is_polled_until_it_can() -> None:
    group = a_group("ab", {"d/f": 1})
    a, b = group["a"], group["b"]
    a.stop()
    a.start()
    a.watch.refuse = lambda path: "cannot be watched: no watches left" if path == b"d" else None
    group.run(15_000)
    assert a.running.disk.polled == "1 directory cannot be watched: no watches left"
    put(a, "d/new", 2)
    group.run(2 * POLL_INTERVAL_MS)
    assert tree(b) == {"d": None, "d/f": 1, "d/new": 2}
    group.run(10 * POLL_INTERVAL_MS)
    assert told(a, "no watches left") == 1, "it is told once, however often it is tried"
    a.watch.refuse = lambda path: None
    group.run(3 * POLL_INTERVAL_MS)
    assert a.running.disk.polled == ""
    assert told(a, "everything is watched again") == 1
    put(a, "d/more", 3)
    group.run(1_000)
    assert tree(b)["d/more"] == 3
    group.check_quiet(600_000)


# -- the only holder of wanted content is gone


def lost_with_c(group: Group, change: dict[str, int]) -> None:
    """What c wrote is known to all, its content is nowhere, and c is gone."""
    group.network.weather.fetch_loss = 1.0
    for path, number in change.items():
        put(group["c"], path, number)
    group.run(5_000)
    known = group["c"].catalog.known
    assert all(member.catalog.known == known for member in group.members.values())
    group.network.weather.fetch_loss = 0.0
    cut_off(group, "c")
    group["c"].crash()


def test_abandon_settles_on_what_is_still_there() -> None:
    group = a_group("abc", {"f": 1, "g": 2})
    lost_with_c(group, {"f": 101, "d/new": 102, "g": 103})
    group.run(120_000)
    a, b = group["a"], group["b"]
    assert dict(a.running.blocked())[b"f"] == NO_SOURCE
    group.retire("c")
    assert abandoned(a, "f") == (1, 0)
    assert b"f" not in dict(a.running.blocked()), "at once"
    assert told(a, "an operator has given up versions: 1 files are as they are here, 0 are gone") == 1
    assert abandoned(b, "d") == (0, 1)
    assert abandoned(b, "g") == (1, 0)
    group.heal()
    assert_settled(group, {"f": 1, "g": 2, "d": None})
    assert_nothing_kept(group)


def test_abandon_refuses_while_a_member_has_told_that_it_has_the_version() -> None:
    group = a_group("abc", {"f": 1})
    lost_with_c(group, {"f": 101})
    a = group["a"]
    with pytest.raises(HeldElsewhereError, match="c has told that it has 1 of 1 files: bring it back"):
        abandoned(a, "f")
    assert abandoned(a, "f", force=True) == (1, 0)
    group.run(5_000)
    assert tree(group["b"]) == {"f": 1}
    group.heal()
    assert_settled(group, {"f": 1})
    assert kept(group["c"]) == [101], "who had it after all keeps it"


def test_i3_a_version_that_another_member_still_has_is_preserved_there() -> None:
    """Else abandoning on a member that has nothing, or something older, deletes it for good."""
    group = a_group("abc", {"f": 1})
    cut_off(group, "a")
    put(group["b"], "f", 2)
    group.run(5_000)
    assert tree(group["c"]) == {"f": 2}
    group.network.weather.fetch_loss = 1.0
    group.network.mend_all()
    lost_with_c(group, {"f": 101})
    group.retire("c")
    assert abandoned(group["a"], "f") == (1, 0)
    group.heal()
    assert_settled(group, {"f": 1})
    assert kept(group["b"]) == [2]


def test_abandon_gives_up_nothing_that_is_here_or_unknown() -> None:
    group = a_group("ab", {"f": 1})
    for path, why in (("f", "nothing there waits"), ("nope", "knows nothing at this path"), ("", "not the folder")):
        with pytest.raises(OperatorError, match=why):
            abandoned(group["a"], path)


# -- clocks that are off


def test_clocks_that_are_hours_off_hold_nothing_up_and_one_a_day_ahead_is_told() -> None:
    group = a_group("abc", {"f": 1}, offsets_ms={"b": 5 * HOUR_MS, "c": -3 * HOUR_MS})
    a, b, c = (group[name] for name in "abc")
    for number, member in enumerate((b, c, a, b), 2):  # each after it has seen the one before
        put(member, "f", number)
        put(member, f"new{number}", number)
        group.run(5_000)
        assert tree(a)["f"] == tree(b)["f"] == tree(c)["f"] == number
    assert not told(a, "ahead")
    b.set_clock(30 * HOUR_MS)
    put(b, "f", 101)
    put(b, "new2", 102)
    group.run(5_000)
    assert told(a, "is more than a day ahead; its changes win until others edit after them") == 1
    put(c, "f", 103)
    group.heal()
    assert_tree(group, {"f": 103, "new2": 102, "new3": 3, "new4": 4, "new5": 5})


def test_what_was_superseded_while_it_waited_is_not_listed_as_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forgotten when its turn comes; a status in between would name what hinders nothing."""
    group = a_group("ab", {"f": 1})
    replica = group["a"].running
    (uid,) = [record.uid for record in records_of(group["a"].catalog) if record.kind == FILE]
    monkeypatch.setattr(
        replica.installing.workbench, "waiting", lambda: [(uid, "the directory that it is in is not known yet")]
    )
    assert replica.blocked() == []
