"""What users do on several members, and what becomes of it: the histories of SCENARIOS that concern the local side.

Each test's number is the scenario's; the rule whose absence makes it fail stands in the docstring.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core.draft import Draft
from replicad.core.local import Appeared, Edited, Moved, Vanished
from replicad.core.records import DIRECTORY, FILE, ZERO, contains, record
from replicad.core.view import ROOT_NODE
from tests.core.make import Choose, by_hypothesis, by_seed
from tests.core.members import Member, Sight, digest, gone_vector, heal, live, members

# Rule 1: the base of a change is what was installed.


def test_s3_an_edit_and_its_deletion_beat_a_later_deletion_of_what_was_before() -> None:
    """1: gone orders by the content it had seen."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    b.write(b"f", 102)
    b.remove(b"f")
    a.remove(b"f")
    heal(a, b)
    assert a.tree() == {}
    assert a.preserved == b.preserved == []


def test_s4_an_edit_beats_a_deletion_that_had_not_seen_it() -> None:
    """1."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    b.write(b"f", 102)
    a.remove(b"f")
    heal(a, b)
    assert a.tree() == {b"f": 102}


def test_s5_what_is_known_and_not_installed_survives_the_deletion_of_what_is_on_the_disk() -> None:
    """1: the catalog knows of 102, the user saw 101."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    b.write(b"f", 102)
    a.hear(b)
    a.remove(b"f")
    assert a.pending() == [b.only(b"f").record.uid]
    heal(a, b)
    assert a.tree() == {b"f": 102}


def test_an_edit_of_what_is_installed_is_concurrent_with_what_is_only_known() -> None:
    """1: its vector does not contain the version that this member knows and has not installed."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    b.write(b"f", 102)
    a.hear(b)
    a.write(b"f", 103)
    ours, theirs = a.only(b"f").record.content, b.only(b"f").record.content
    assert ours is not None
    assert theirs is not None
    assert not contains(ours, theirs)
    heal(a, b)
    assert a.tree() == {b"f": 103}
    assert b.preserved == [(b"f", 102)]


def test_an_edit_that_loses_to_a_known_version_is_still_the_base_of_what_comes_next() -> None:
    """1: 102 is stamped ahead, so the edit to 103 loses; it is what the disk shows, and its CN is known."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    b.ahead_ms = 3_600_000
    b.write(b"f", 102)
    a.hear(b)
    a.write(b"f", 103)
    state = a.only(b"f")
    assert state.record.content is not None
    assert state.base_content is not None
    assert state.record.content.digest == digest(102)
    assert state.base_content.digest == digest(103)
    assert state.base_content.cn == a.at(b"f").shows
    assert state.base_content.cn in a.view.known
    assert state.pending
    heal(a, b)
    assert a.tree() == {b"f": 102}
    assert a.preserved == [(b"f", 103)]


def test_a_rename_falls_back_to_where_the_entry_was_installed() -> None:
    """1: the prior place is the installed one, though a newer one is known."""
    a, b = members(2)
    a.mkdir(b"d")
    heal(a, b)
    b.move(b"d", b"e")
    a.hear(b)
    a.move(b"d", b"g")
    place = a.only(b"g").record.place
    assert place is not None
    assert (place.prior_name, place.name) == (b"d", b"g")


def test_s12_a_version_that_saw_an_intermediate_one_takes_it_off_the_disk_without_preserving_it() -> None:
    """1: version vectors, not one predecessor."""
    a, b, c = members(3)
    c.write(b"f", 101)
    heal(a, b, c)
    b.write(b"f", 102)
    a.hear(b)
    a.install()
    a.write(b"f", 103)
    heal(a, b, c)
    assert c.tree() == {b"f": 103}
    assert c.preserved == []


def test_s20_an_edit_after_one_from_a_clock_that_was_years_ahead_stands_and_infects_nothing() -> None:
    """1: a stamp per register."""
    a, b = members(2)
    for name in (b"f", b"other"):
        a.write(name, 101)
    heal(a, b)
    a.ahead_ms = 10 * 365 * 86_400_000
    a.write(b"f", 102)
    a.ahead_ms = 0
    heal(a, b)
    b.write(b"f", 103)
    b.write(b"other", 104)
    heal(a, b)
    assert a.tree() == {b"f": 103, b"other": 104}
    content = a.only(b"other").record.content
    assert content is not None
    assert content.time_ms <= a.clock.now_ms


# Stamps of what nobody watched.


def test_an_offline_edit_found_later_is_stamped_by_the_files_mtime() -> None:
    """Monday's edit, found on Wednesday, does not beat Tuesday's."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    monday_ns = a.clock.tick(86_400_000) * 1_000_000
    a.clock.tick(86_400_000)
    b.write(b"f", 102)
    a.clock.tick(86_400_000)
    offline = Edited(a.at(b"f").id, Sight(FILE, size=103, mtime_ns=monday_ns, ctime_ns=monday_ns), digest(103))
    a.take(offline, watched=False)
    heal(a, b)
    assert a.tree() == {b"f": 102}
    assert a.preserved == [(b"f", 103)]


def test_an_offline_move_is_stamped_by_its_ctime_and_a_creation_by_both() -> None:
    a = members(1)[0]
    written, renamed = (a.clock.tick() * 1_000_000 for _ in range(2))
    a.clock.tick(86_400_000)
    new = Appeared(0, ROOT_NODE, b"n", Sight(FILE, mtime_ns=written, ctime_ns=renamed), digest(7))
    a.take(new, watched=False)
    record = a.only(b"n").record
    assert record.place is not None
    assert record.content is not None
    assert record.content.time_ms * 1_000_000 == written
    assert record.place.time_ms * 1_000_000 == renamed


def test_a_time_before_the_predecessor_or_after_now_counts_as_now() -> None:
    a = members(1)[0]
    a.write(b"f", 101)
    made = a.only(b"f").record.content
    assert made is not None
    for told_ms in (made.time_ms, made.time_ms - 5, a.clock.now_ms + 10_000_000):
        node = a.at(b"f")
        a.take(Edited(node.id, Sight(FILE, mtime_ns=told_ms * 1_000_000), digest(told_ms)), watched=False)
        content = a.only(b"f").record.content
        assert content is not None
        assert content.time_ms == a.clock.now_ms


# What is as it was.


def test_a_file_read_again_with_equal_content_writes_no_record() -> None:
    a = members(1)[0]
    a.write(b"f", 101)
    node, known = a.at(b"f"), a.view.known
    again = Sight(FILE, 99, 101, node.mtime_ns, node.ctime_ns + 5, 0, node.mode)
    touched = a.take(Edited(node.id, again, digest(101)))
    assert a.view.known == known
    assert touched.uids == ()
    assert (a.at(b"f").inode, a.at(b"f").ctime_ns) == (99, node.ctime_ns + 5)


def test_a_fresh_file_is_entered_with_a_ctime_that_no_file_has() -> None:
    a = members(1)[0]
    a.take(Appeared(0, ROOT_NODE, b"f", Sight(FILE, mtime_ns=5, ctime_ns=5), digest(1), fresh=True))
    assert a.at(b"f").ctime_ns == 0


def test_metadata_that_the_filesystem_does_not_hold_is_not_taken_for_the_users_change() -> None:
    """The disk rounds mtimes and knows one mode: what it told last counts, not the record."""
    a, b = members(2)
    a.write(b"f", 101, mtime_ns=1_500_000_123, mode=0o751)
    heal(a, b)
    node = b.at(b"f")
    rounded = Sight(FILE, 5, 101, 1_500_000_000, 9, 0, 0o755)
    b.take(Edited(node.id, rounded, digest(101)))  # as the applier reads back; a user's touch looks the same once
    heal(a, b)
    b.take(Edited(b.at(b"f").id, Sight(FILE, 5, 102, 1_500_000_000, 10, 0, 0o755), digest(102)))
    content = b.only(b"f").record.content
    assert content is not None
    assert (content.mode, content.mtime_ns, content.size) == (0o755, 1_500_000_000, 102)


def test_content_that_changed_while_size_mode_and_mtime_did_not_is_an_edit() -> None:
    a = members(1)[0]
    a.write(b"f", 101)
    node = a.at(b"f")
    back = Sight(FILE, node.inode, node.size, node.mtime_ns, node.ctime_ns + 1, node.birth_ns, node.mode)
    a.take(Edited(node.id, back, digest(102)))
    assert a.tree() == {b"f": 102}


def test_a_mode_alone_is_an_edit_of_the_content_register() -> None:
    a, b = members(2)
    a.write(b"f", 101)
    a.mkdir(b"d")
    heal(a, b)
    a.chmod(b"f", 0o600)
    a.chmod(b"d", 0o700)
    heal(a, b)
    assert (b.at(b"f").mode, b.at(b"d").mode) == (0o600, 0o700)
    assert b.tree() == {b"d": None, b"f": 101}


def test_a_symlinks_target_is_its_content_and_its_mode_means_nothing() -> None:
    a, b = members(2)
    a.symlink(b"l", b"/nowhere")
    heal(a, b)
    known = b.view.known
    node = b.at(b"l")
    b.take(Edited(node.id, Sight(node.kind, 8, mode=0o777), value=b"/nowhere"))
    assert b.view.known == known
    b.symlink(b"l", b"there")
    heal(a, b)
    assert a.tree() == {b"l": b"there"}


# Rule 2: what equals the tree is adopted.


def test_an_equal_file_at_a_wanted_path_is_adopted() -> None:
    """2: no record."""
    a, b = members(2)
    a.mkdir(b"d")
    a.write(b"d/f", 101, mtime_ns=77, mode=0o640)
    b.hear(a)
    known = b.view.known
    b.mkdir(b"d")
    b.write(b"d/f", 101, mtime_ns=77, mode=0o640)
    assert b.view.known == known
    assert b.pending() == []
    assert b.uids(b"d/f") == a.uids(b"d/f")
    assert b.at(b"d/f").shows == a.at(b"d/f").shows


def test_an_adopted_file_with_another_mtime_waits_for_that_of_the_tree() -> None:
    """2: mode and mtime are set to the tree's; a scan in between changes nothing."""
    a, b = members(2)
    a.write(b"f", 101, mtime_ns=77)
    b.hear(a)
    known = b.view.known
    b.write(b"f", 101, mtime_ns=78)
    assert b.view.known == known
    assert b.pending() == [a.only(b"f").record.uid]
    assert b.at(b"f").mtime_ns == 78
    node = b.at(b"f")
    b.take(Edited(node.id, Sight(FILE, 3, node.size, 78, 6, 0, node.mode), digest(101)))
    assert b.view.known == known
    heal(a, b)
    assert b.at(b"f").mtime_ns == 77


def test_a_different_file_at_a_wanted_path_is_a_creation_and_hides_what_was_wanted() -> None:
    a, b = members(2)
    a.write(b"f", 101)
    b.hear(a)
    b.write(b"f", 102)
    heal(a, b)
    assert a.tree() == {b"f": 102}
    assert a.preserved == [(b"f", 101)]


def test_what_is_on_the_disk_elsewhere_is_not_adopted_twice() -> None:
    """2: the tree wants it at that path, but this disk has it at the old one."""
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    a.move(b"f", b"g")
    b.hear(a)
    b.write(b"g", 101)
    heal(a, b)
    assert a.tree() == {b"g": 101}
    assert b.preserved == []


def test_a_user_who_makes_just_what_the_group_has_made_writes_no_record() -> None:
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    a.write(b"f", 102, mtime_ns=55)
    b.hear(a)
    known = b.view.known
    b.write(b"f", 102, mtime_ns=55)
    b.clock.tick()
    a.move(b"f", b"g")
    b.hear(a)
    b.move(b"f", b"g")
    assert b.view.known == a.view.known
    assert known.count() + 1 == b.view.known.count()
    assert b.pending() == []


# Rule 3: a path stands for all its UIDs.


def test_s7_a_merged_directory_is_renamed_as_both() -> None:
    """3."""
    a, b, c = members(3)
    for member, name in ((a, b"d/x"), (b, b"d/y")):
        member.mkdir(b"d")
        member.write(name, 101)
    heal(a, b, c)
    assert len(c.uids(b"d")) == 2
    c.move(b"d", b"e")
    heal(a, b, c)
    assert a.tree() == {b"e": None, b"e/x": 101, b"e/y": 101}


def test_a_merged_directory_is_deleted_as_both() -> None:
    """3."""
    a, b, c = members(3)
    a.mkdir(b"d")
    b.mkdir(b"d")
    heal(a, b, c)
    c.remove(b"d")
    heal(a, b, c)
    assert a.tree() == {}


def test_a_merged_directorys_mode_is_that_of_both() -> None:
    """3: were it set on one alone, the other might decide."""
    a, b, c = members(3)
    b.ahead_ms = 3_600_000
    a.mkdir(b"d", 0o755)
    b.mkdir(b"d", 0o750)
    heal(a, b, c)
    c.chmod(b"d", 0o700)
    assert c.pending() == []
    heal(a, b, c)
    assert a.at(b"d").mode == 0o700


def test_s8_an_edit_of_a_merged_file_goes_to_one_and_ends_the_other() -> None:
    """3."""
    a, b, c = members(3)
    a.write(b"f", 7)
    b.write(b"f", 7)
    heal(a, b, c)
    first, second = c.uids(b"f")
    c.write(b"f", 101)
    heal(a, b, c)
    assert a.tree() == {b"f": 101}
    assert a.uids(b"f") == (first,)
    assert gone_vector(a, second)
    c.remove(b"f")
    heal(a, b, c)
    assert a.tree() == {}
    assert a.preserved == b.preserved == c.preserved == []


def test_a_move_of_a_merged_file_takes_along_the_mtime_that_was_shown() -> None:
    """3: the first UID goes on alone, with what the disk shows."""
    a, b, c = members(3)
    a.write(b"f", 7, mtime_ns=1)
    b.write(b"f", 7, mtime_ns=2)
    heal(a, b, c)
    shown = c.at(b"f").mtime_ns
    c.move(b"f", b"g")
    assert c.pending() == []
    heal(a, b, c)
    assert a.tree() == {b"g": 7}
    assert a.at(b"g").mtime_ns == c.at(b"g").mtime_ns == shown
    assert live(a) == 1


def test_s13_a_hidden_loser_does_not_come_up_when_the_winner_is_deleted() -> None:
    """3: it is gone too, with an empty version vector, so that who has it on disk preserves it."""
    a, b, c = members(3)
    a.write(b"n", 101)
    b.write(b"n", 102)
    loser = a.only(b"n").record.uid
    heal(a, b, c)
    assert c.tree() == {b"n": 102}
    assert a.preserved == [(b"n", 101)]
    c.remove(b"n")
    assert gone_vector(c, loser) == ()
    heal(a, b, c)
    assert a.tree() == {}


def test_a_hidden_loser_does_not_come_up_when_the_winner_is_renamed() -> None:
    """3."""
    a, b, c = members(3)
    a.write(b"n", 101)
    b.write(b"n", 102)
    heal(a, b, c)
    c.move(b"n", b"m")
    heal(a, b, c)
    assert c.tree() == {b"m": 102}


def test_s23_a_loser_that_was_never_seen_here_is_preserved_where_it_is() -> None:
    """3: C never had A's 101; its gone has an empty vector, so A keeps a copy."""
    a, b, c = members(3)
    a.write(b"n", 101)
    for member in (b, c):
        member.hear(a)  # the record only
    b.write(b"n", 102)
    c.hear(b)
    c.install()
    assert c.disk() == {b"n": 102}
    c.remove(b"n")
    heal(a, b, c)
    assert a.tree() == {}
    assert a.preserved == [(b"n", 101)]


def test_an_edit_of_a_loser_after_it_was_hidden_survives_the_deletion_of_the_winner() -> None:
    """3: the gone orders above the content that lay hidden, not above what came later."""
    a, b, c = members(3)
    a.write(b"n", 101)
    b.write(b"n", 102)
    loser = a.only(b"n")
    for member in (b, c):
        member.hear(a, b)
        member.install()
    a.write(b"n", 103)  # A has not heard of 102
    c.remove(b"n")
    heal(a, b, c)
    assert a.tree() == {b"n": 103}
    assert a.uids(b"n") == (loser.record.uid,)


def test_an_edit_of_the_winner_leaves_a_hidden_loser_alone() -> None:
    """3: half of a swap looks like a conflict (S15)."""
    a, b, c = members(3)
    a.write(b"n", 101)
    b.write(b"n", 102)
    loser = a.only(b"n").record.uid
    heal(a, b, c)
    c.write(b"n", 103)
    state = c.view.object(loser)
    assert state is not None
    assert state.record.live
    assert state.beneath == c.at(b"n").id


def test_s15_an_edit_between_the_halves_of_a_swap_stays_on_the_object_that_the_user_saw() -> None:
    """1, 3: B knows of one half when its user edits `a`."""
    a, b = members(2)
    a.write(b"a", 101)
    a.write(b"b", 102)
    heal(a, b)
    first = b.only(b"a").record.uid
    a.swap(b"a", b"b")
    b.hear_records(a.records()[:1])
    b.write(b"a", 103)
    heal(a, b)
    assert a.tree() == {b"a": 102, b"b": 103}
    assert a.uids(b"b") == (first,)
    assert a.preserved == b.preserved == []


# Rule 4: rm -r.


def test_s6_a_removed_directory_is_gone_with_everything_in_it() -> None:
    """4."""
    a, b = members(2)
    a.mkdir(b"d")
    a.mkdir(b"d/e")
    a.write(b"d/e/x", 101)
    heal(a, b)
    b.remove(b"d")
    assert live(b) == 0
    heal(a, b)
    assert a.tree() == {}
    assert a.preserved == []


def test_what_another_adds_to_a_removed_directory_keeps_it() -> None:
    a, b = members(2)
    a.mkdir(b"d")
    a.write(b"d/x", 101)
    heal(a, b)
    b.remove(b"d")
    a.write(b"d/n", 102)
    heal(a, b)
    assert a.tree() == {b"d": None, b"d/n": 102}


def test_a_large_directory_goes_in_pieces_without_pinning_what_is_going() -> None:
    """4, 5: the pieces name the uppermost entry that goes."""
    a, b = members(2)
    a.mkdir(b"d")
    a.write(b"d/x", 101)
    heal(a, b)
    a.remove(b"d")
    b.write(b"d/n", 102)
    heal(a, b)  # d is only kept
    before = a.view.known.count()
    a.take(Vanished(a.at(b"d/n").id, top=a.at(b"d").id))
    a.take(Vanished(a.at(b"d").id))
    assert a.view.known.count() == before + 1
    heal(a, b)
    assert a.tree() == {}


def test_what_others_have_deleted_already_is_not_deleted_again() -> None:
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    a.remove(b"f")
    b.hear(a)
    b.remove(b"f")
    assert b.view.known == a.view.known
    assert b.pending() == []


# Rule 5: pins.


def test_s9_a_directory_that_was_only_kept_is_written_down_before_a_change_beneath_it() -> None:
    """5: else d vanishes with its last child, though nobody deleted it since."""
    a, b, c = members(3)
    a.mkdir(b"d")
    a.write(b"d/x", 101)
    heal(a, b, c)
    a.remove(b"d")
    b.write(b"d/n", 102)
    heal(a, b, c)
    assert c.tree() == {b"d": None, b"d/n": 102}
    c.remove(b"d/n")
    heal(a, b, c)
    assert a.tree() == {b"d": None}


def test_s9_a_new_file_and_a_file_moved_out_write_it_down_as_well() -> None:
    """5."""
    for act in ("create", "move"):
        a, b, c = members(3)
        a.mkdir(b"d")
        a.write(b"d/x", 101)
        heal(a, b, c)
        a.remove(b"d")
        b.write(b"d/n", 102)
        heal(a, b, c)
        if act == "create":
            c.write(b"d/m", 103)
            heal(a, b, c)
            a.remove(b"d/m")
            b.remove(b"d/n")
        else:
            c.move(b"d/n", b"n")
        heal(a, b, c)
        assert b"d" in a.tree()


def test_s10_the_newest_move_in_a_cycle_falls_back() -> None:
    a, b = _moved_into_each_other()
    heal(a, b)
    assert a.tree() == {b"top": None, b"top/z": None, b"top/z/y": None, b"top/z/y/x": None}


def test_s11_a_change_beneath_the_cut_of_a_cycle_first_writes_it_down() -> None:
    """5: else the cut moves, and z hangs below y/x."""
    a, b = _moved_into_each_other()
    c = members(3)[2]
    c.clock = a.clock
    heal(a, b, c)
    c.move(b"top/z/y", b"y")
    heal(a, b, c)
    assert a.tree() == {b"top": None, b"top/z": None, b"y": None, b"y/x": None}


def test_s11_it_is_written_down_also_where_the_move_that_was_cut_is_stamped_ahead() -> None:
    """5: what the user sees is the outcome of that move, so the pin comes after it."""
    a, b = _moved_into_each_other(ahead_ms=3_600_000)
    c = members(3)[2]
    c.clock = a.clock
    heal(a, b, c)
    c.move(b"top/z/y", b"y")
    heal(a, b, c)
    assert a.tree() == {b"top": None, b"top/z": None, b"y": None, b"y/x": None}


def _moved_into_each_other(ahead_ms: int = 0) -> list[Member]:
    a, b = members(2)
    for path in (b"top", b"top/z", b"top/z/y", b"top/x"):
        a.mkdir(path)
    heal(a, b)
    b.ahead_ms = ahead_ms
    a.move(b"top/x", b"top/z/y/x")
    b.move(b"top/z", b"top/x/z")
    return [a, b]


# Moves, saves, kinds.


def test_s14_two_names_swapped_are_two_records() -> None:
    a, b = members(2)
    a.write(b"a", 101)
    a.write(b"b", 102)
    heal(a, b)
    first, second = a.uids(b"a"), a.uids(b"b")
    before = a.view.known.count()
    a.swap(b"a", b"b")
    assert a.view.known.count() == before + 2
    heal(a, b)
    assert b.tree() == {b"a": 102, b"b": 101}
    assert (b.uids(b"a"), b.uids(b"b")) == (second, first)
    assert b.preserved == []


def test_s34_a_file_moved_over_a_name_that_another_took_meanwhile_wins_it() -> None:
    """C has not installed B's n: it is preserved on B."""
    a, b, c = members(3)
    a.write(b"m", 101)
    heal(a, b, c)
    b.write(b"m", 102)
    c.hear(b)
    c.install()
    b.write(b"n", 103)
    c.move(b"m", b"n")
    heal(a, b, c)
    assert a.tree() == {b"n": 102}
    assert b.preserved == [(b"n", 103)]


def test_s34_a_tracked_file_moved_over_another_is_a_move_and_a_deletion() -> None:
    a, b = members(2)
    a.write(b"m", 101)
    a.write(b"n", 102)
    heal(a, b)
    moved, replaced = a.only(b"m").record.uid, a.only(b"n").record.uid
    a.move(b"m", b"n")
    assert gone_vector(a, replaced)
    heal(a, b)
    assert b.tree() == {b"n": 101}
    assert b.uids(b"n") == (moved,)
    assert b.preserved == []


def test_a_file_that_becomes_a_directory_is_another_object() -> None:
    a, b = members(2)
    a.write(b"f", 101)
    heal(a, b)
    old = a.at(b"f")
    new = Appeared(0, ROOT_NODE, b"f", Sight(DIRECTORY, mode=0o755))
    a.take(Vanished(old.id), new)
    a.write(b"f/x", 102)
    heal(a, b)
    assert b.tree() == {b"f": None, b"f/x": 102}
    assert b.preserved == []


def test_a_renamed_directory_is_one_record_whatever_is_in_it() -> None:
    a, b = members(2)
    a.mkdir(b"d")
    for number in range(50):
        a.write(b"d/%d" % number, number)
    heal(a, b)
    before = a.view.known.count()
    touched = a.take(Moved(a.at(b"d").id, ROOT_NODE, b"e", Sight(DIRECTORY)))
    assert a.view.known.count() == before + 1
    assert len(touched.slots) == 2
    heal(a, b)
    assert len(b.tree()) == 51


def test_s17_an_installed_file_moved_before_the_commit_is_told_is_one_object() -> None:
    """The intent enters it where it was put; the scan finds it elsewhere by its inode: a move, no creation."""
    a, b = members(2)
    b.mkdir(b"b")
    b.mkdir(b"c")
    b.write(b"c/a", 102)
    heal(a, b)
    a.take(Moved(a.at(b"c/a").id, a.at(b"b").id, b"a", Sight(FILE)))
    heal(a, b)
    b.write(b"b/a", 105)
    heal(a, b)
    assert a.tree() == {b"b": None, b"b/a": 105, b"c": None}


def test_s40_changes_made_while_stopped_are_edits_of_the_same_objects() -> None:
    a, b = members(2)
    a.mkdir(b"d")
    a.write(b"d/f", 101)
    heal(a, b)
    (uid,) = a.uids(b"d/f")
    a.take(
        Edited(a.at(b"d/f").id, Sight(FILE, 9, 102, mtime_ns=a.clock.now_ms * 1_000_000), digest(102)),
        Moved(a.at(b"d").id, ROOT_NODE, b"e", Sight(DIRECTORY)),
        watched=False,
    )
    heal(a, b)
    assert b.tree() == {b"e": None, b"e/f": 102}
    assert b.uids(b"e/f") == (uid,)


def test_what_stands_for_no_object_is_followed_and_originates_nothing() -> None:
    """Objects that were collected elsewhere are dropped (DESIGN section 4, stale); their entries are about to go."""
    a = members(1)[0]
    a.mkdir(b"d")
    a.write(b"d/f", 101)
    a.write(b"g", 102)
    draft = Draft(a.view)
    for path in (b"d", b"d/f"):
        draft.drop(a.only(path).record.uid)
    a.view.apply(draft)
    known = a.view.known
    inode = a.at(b"d/f").inode + 1
    a.take(Edited(a.at(b"d/f").id, Sight(FILE, inode, 103), digest(103)))
    a.take(Appeared(0, a.at(b"d").id, b"new", Sight(FILE), digest(1)))
    assert a.at(b"d/f").inode == inode
    assert a.node(b"d/new") is None
    assert a.view.known == known
    a.take(Moved(a.at(b"g").id, a.at(b"d").id, b"g", Sight(FILE)))
    assert a.tree() == {}
    a.take(Vanished(a.at(b"d").id))
    assert a.node(b"d") is None


# Siblings (rule 5), on a view made by hand: the policy is not in the tree yet.


def test_acting_on_a_name_first_writes_down_who_stands_beside_it_under_another() -> None:
    """5: a loser shown as `n.1` would take the freed name."""
    a = members(1)[0]
    a.write(b"n", 102)
    a.write(b"x", 101)
    sibling = a.only(b"x")
    _show_as_sibling(a, b"x", shown=b"n.1", own=b"n")
    a.remove(b"n")
    state = a.view.object(sibling.record.uid)
    assert state is not None
    assert state.record.place is not None
    assert state.record.place.name == b"n.1"


def _show_as_sibling(member: Member, path: bytes, *, shown: bytes, own: bytes) -> None:
    """As if the entry at `path` were recorded as `own` and stood on the disk as `shown`."""
    draft = Draft(member.view)
    node, state = member.at(path), member.only(path)
    assert state.record.place is not None
    place = msgspec.structs.replace(state.record.place, name=own)
    draft.put(msgspec.structs.replace(state, record=record(state.record.uid, FILE, place, state.record.content)))
    draft.put_node(msgspec.structs.replace(node, name=shown))
    member.view.apply(draft)


# Rule 6: originals.


def test_s1_what_a_founder_did_before_contact_is_done_to_the_others_copies() -> None:
    """6: renamed, edited and deleted objects are those of the others."""
    a, b, c = _founders(b"d/f0", b"d/f1", b"d/f2")
    a.move(b"d", b"e")
    a.write(b"e/f0", 201)
    a.remove(b"e/f1")
    heal(a, b, c)
    assert a.tree() == {b"e": None, b"e/f0": 201, b"e/f2": 7}
    assert len(a.view.states) == 4  # eight registers
    assert a.preserved == b.preserved == c.preserved == []


def test_s2_what_differs_at_one_path_is_preserved_on_the_losers_member() -> None:
    """6."""
    a, b, c = _founders(b"d/f0", b"d/f1")
    c.write(b"d/only", 8)
    a.write(b"d/diff", 9, mtime_ns=1)
    b.write(b"d/diff", 10, mtime_ns=2)
    heal(a, b, c)
    assert a.tree() == {b"d": None, b"d/f0": 7, b"d/f1": 7, b"d/only": 8, b"d/diff": 10}
    assert (a.preserved, b.preserved, c.preserved) == ([(b"d/diff", 9)], [], [])


def test_s26_equal_bytes_with_other_times_are_one_object_and_nothing_new_is_written() -> None:
    """6: of two registers with one stamp the greater encoding wins."""
    a, b, c = members(3, founding=True)
    for index, member in enumerate((a, b, c)):
        member.write(b"f", 7, mtime_ns=index + 1, mode=0o600 + index)
    known = {cn for member in (a, b, c) for cn in member.records()[0].cns()}
    heal(a, b, c)
    assert len(a.view.states) == 1
    assert a.view.known.count() == len(known) == 3
    assert len({(member.at(b"f").mtime_ns, member.at(b"f").mode) for member in (a, b, c)}) == 1
    assert a.preserved == b.preserved == c.preserved == []


def test_s33_the_founder_that_had_seven_keeps_it_beside_an_edit_of_a_new_file() -> None:
    """6: an original loses its name to any other, and 8 was made by one who had never seen 7."""
    a, b = members(2, founding=True)
    a.write(b"f", 7)
    b.founding = False
    b.write(b"f", 8)
    heal(a, b)
    assert a.tree() == {b"f": 8}
    assert a.preserved == [(b"f", 7)]


def test_an_original_has_stamp_zero_empty_vectors_and_one_cn() -> None:
    """6."""
    a = members(1, founding=True)[0]
    a.mkdir(b"d")
    a.write(b"d/f", 7)
    record = a.only(b"d/f").record
    assert record.place is not None
    assert record.content is not None
    assert (record.place.stamp, record.content.stamp) == (ZERO, ZERO)
    assert record.place.vector == record.content.vector == ()
    assert record.place.cn == record.content.cn
    assert record.place.parent == a.only(b"d").record.uid
    assert len(record.uid) == 20


def test_an_original_that_is_deleted_is_gone_for_all_founders() -> None:
    """6: gone orders just above stamp zero, and its vector contains every original of that object."""
    a, b = _founders(b"d/f0")[:2]
    a.remove(b"d/f0")
    heal(a, b)
    assert b.tree() == {b"d": None}
    assert b.preserved == []


def test_what_a_founder_deletes_and_makes_again_during_its_first_scan_is_new() -> None:
    """6: the tombstone of the original must not take the new file off the disk."""
    a, b = members(2, founding=True)
    a.write(b"f", 7)
    a.remove(b"f")
    a.write(b"f", 7)
    b.write(b"f", 7)
    heal(a, b)
    assert a.tree() == {b"f": 7}


def test_a_copy_at_the_old_path_of_an_original_that_was_moved_is_another_object() -> None:
    """6."""
    a = members(1, founding=True)[0]
    a.write(b"f", 7)
    a.move(b"f", b"g")
    a.write(b"f", 7)
    assert a.disk() == a.tree() == {b"f": 7, b"g": 7}
    assert a.uids(b"f") != a.uids(b"g")


def test_an_original_whose_parent_merged_with_another_directory_still_names_its_own() -> None:
    """6: other founders name the same parent."""
    a, b = members(2, founding=True)
    a.mkdir(b"d")
    b.founding = False
    b.mkdir(b"d")  # made after the founding by another; smaller UID
    a.hear(b)
    assert len(a.uids(b"d")) == 2
    a.write(b"d/f", 7)
    place = a.only(b"d/f").record.place
    assert place is not None
    assert len(place.parent) == 20


def _founders(*paths: bytes) -> list[Member]:
    group = members(3, founding=True)
    for member in group:
        member.mkdir(b"d")
        for path in paths:
            member.write(path, 7, mtime_ns=5)
        member.founding = False
    return group


# Any history.


class _Users:
    """Users of three members; `written` are the contents they made, `retired` those that one who saw them took away."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.group = members(3)
        self.written: set[int] = set()
        self.retired: set[int] = set()
        for member in self.group:
            member.ahead_ms = choose(3) * 500

    def history(self) -> None:
        choose = self.choose
        for _ in range(10 + choose(30)):
            member = self.group[choose(3)]
            if choose(5) == 0:
                member.hear(*(other for other in self.group if choose(2)))
            elif choose(6) == 0:
                member.install()
            else:
                before = dict(member.disk())
                expected = self._act(member, before)
                assert member.disk() == expected, "what a user did is what the disk shows"
                self.retired |= _files(before) - _files(expected)

    def _act(self, member: Member, disk: dict[bytes, object]) -> dict[bytes, object]:
        """Do something to the disk; returns what it must be afterwards."""
        choose, others = self.choose, list(disk)
        directories = [b"", *(path for path, value in disk.items() if value is None)]
        parent = directories[choose(len(directories))]
        name = (b"a", b"b", b"c")[choose(3)]
        path = parent + b"/" + name if parent else name
        what = choose(5)
        if what == 0 and others:
            victim = others[choose(len(others))]
            member.remove(victim)
            return {other: value for other, value in disk.items() if not _within(other, victim)}
        if what == 1 and others:
            source = others[choose(len(others))]
            if _within(path, source) or (path in disk and (disk[path] is None or disk[source] is None)):
                return disk
            member.move(source, path)
            moved = {path + other[len(source) :]: value for other, value in disk.items() if _within(other, source)}
            return {other: value for other, value in disk.items() if not _within(other, source)} | moved
        if what == 2 and path not in disk:
            member.mkdir(path)
            return disk | {path: None}
        if disk.get(path, 0) is None:
            return disk
        value = 1 + choose(2) if choose(3) == 0 else 10 + len(self.written)
        self.written.add(value)
        member.write(path, value)
        return disk | {path: value}

    def assert_all_is_well(self) -> None:
        heal(*self.group)
        known = [member.view.known for member in self.group]
        assert not any(member.pending() for member in self.group)
        kept = {value for member in self.group for _, value in member.preserved}
        assert self.written - self.retired - kept <= _files(self.group[0].disk())
        heal(*self.group)
        assert [member.view.known for member in self.group] == known


def _files(disk: dict[bytes, object]) -> set[int]:
    return {value for value in disk.values() if isinstance(value, int)}


def _within(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def _run(choose: Choose) -> None:
    users = _Users(choose)
    users.history()
    users.assert_all_is_well()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_i3_whatever_users_do_disks_show_it_members_converge_and_nothing_is_lost(data: st.DataObject) -> None:
    _run(by_hypothesis(data))


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_i3_whatever_users_do_by_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        _run(by_seed(seed))
