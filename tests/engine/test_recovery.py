"""A crash at any instant of the applier's work, whatever users do while the daemon is down (I12, S17, S30)."""

from __future__ import annotations

import random

import pytest

from replicad.core.records import FILE
from replicad.engine.intents import decode_intent
from replicad.engine.renames import OWNER_MAY_FILL
from tests.engine.gap import (
    ON_DIRECTORIES,
    ON_FILES,
    Act,
    Gap,
    Story,
    append,
    rename_away,
    save,
    write,
    write_inside,
)
from tests.engine.rig import Author, Crash, Rig
from tests.engine.stories import DIRECTORY_STORIES, FILE_STORIES, edit, edit_unseen, one_file

STORIES = (*FILE_STORIES, *DIRECTORY_STORIES)
ACTS: tuple[Act, ...] = tuple(dict.fromkeys((*ON_FILES, *ON_DIRECTORIES)))
BY_NAME = {story.name: story for story in STORIES}


def _name(parameter: object) -> str:
    return parameter.name if isinstance(parameter, Story) else getattr(parameter, "__name__", "nobody")


def _do(gap: Gap, act: Act, path: bytes) -> None:
    try:
        act(gap, path)
    except (OSError, KeyError):
        pass  # there is nothing of this kind at that moment


def _crash_at(gap: Gap, chosen: int) -> bool:
    """Whether it came so far."""

    def do(instant: int) -> None:
        if instant == chosen:
            raise Crash

    try:
        gap.run(do)
    except Crash:
        gap.rig.kill()
        return True
    return False


@pytest.mark.parametrize("act", [None, save, rename_away, write, write_inside], ids=_name)
@pytest.mark.parametrize("story", STORIES, ids=_name)
def test_i12_a_crash_at_any_instant_loses_nothing(story: Story, act: Act | None) -> None:
    crashes = 0
    for chosen in range(1_000):
        gap = Gap(story)
        if not _crash_at(gap, chosen):
            break
        crashes += 1
        if act is not None:
            for path in story.paths:
                _do(gap, act, path)
        gap.take_versions()
        gap.rig.start()
        gap.check_end()
    assert crashes > 3


@pytest.mark.parametrize("kind", ["", "without exchange", "without times of birth"])
@pytest.mark.parametrize("seed", range(100))
def test_i12_crashes_and_users_at_random_instants_lose_nothing(seed: int, kind: str) -> None:
    chance = random.Random(f"{seed} {kind}")
    story = chance.choice(STORIES)
    gap = Gap(story, no_exchange=kind == "without exchange", births=kind != "without times of birth")
    acts = {chance.randrange(25) for _ in range(chance.randrange(3))}
    crashes = sorted(chance.randrange(30) for _ in range(chance.randrange(3)))

    def do(instant: int) -> None:
        if instant in acts:
            _do(gap, chance.choice(ACTS), chance.choice(story.paths))
        if crashes and instant >= crashes[0]:
            crashes.pop(0)
            raise Crash

    def start_and_work(*, start: bool) -> None:
        gap.hook(do)
        if start:
            gap.rig.start()
        for _ in range(4):
            gap.rig.work()

    start = False
    while True:
        try:
            start_and_work(start=start)
            break
        except Crash:
            gap.rig.kill()
            start, gap.armed = True, True
            if chance.randrange(2):
                _do(gap, chance.choice(ACTS), chance.choice(story.paths))
            gap.take_versions()
    gap.quiet()
    if gap.handles and chance.randrange(3) == 0:
        append(gap, chance.choice(sorted(gap.handles)))
    gap.check_end()


# -- what a user does while the daemon is down


def test_s17_a_new_file_that_was_moved_before_the_start_is_one_object() -> None:
    """It was put at `c/a` and not entered; its user moves it to `b/a`; later it is edited elsewhere."""
    rig = Rig()
    author = Author(rig.bodies)
    one, other = author.directory(b"b"), author.directory(b"c")
    rig.take([one, other])
    rig.settle()
    made = author.file(b"a", b"102", other.uid)
    rig.take([made])
    _crash_before_the_last_commit(rig)
    assert rig.disk()[b"c/a"][2] == b"102"
    rig.fs.user_rename(b"c/a", b"b/a")
    rig.start()
    state = rig.catalog.object(made.uid)
    assert state is not None
    assert state.node is not None, "the file that stands where it was moved to is this object's"
    node = rig.catalog.node(state.node)
    stat = rig.fs.stat(b"b/a")
    assert node is not None
    assert stat is not None
    assert node.inode == stat.inode, "the scan follows the inode"
    assert rig.recovered.done == 1
    assert not state.pending, "it is not installed once more at its old place"


@pytest.mark.parametrize("act", [save, write], ids=_name)
def test_s30_a_users_edit_that_came_out_unseen_before_the_crash_is_live_again(act: Act) -> None:
    """The staged file was exchanged with `f`, which had just been edited; nobody has looked at what came out."""
    gap = Gap(BY_NAME["put over an older version"])
    exchanged = _instant_of(gap.story, "exchange")
    gap = Gap(gap.story)

    def do(instant: int) -> None:
        if instant == exchanged:
            act(gap, b"f")
        if instant == exchanged + 1:
            raise Crash

    with pytest.raises(Crash):
        gap.run(do)
    gap.rig.kill()
    text = gap.written[0]
    assert gap.rig.disk()[b"f"][2] == b"new version", "the edit lies in staging"
    gap.rig.start()
    assert gap.rig.disk()[b"f"][2] == text
    gap.check_end()


def _instant_of(story: Story, method: str) -> int:
    """At which instant this call comes."""
    gap = Gap(story)
    found: list[int] = []
    gap.hook(lambda instant: None)
    told = gap.rig.fs.before_change

    def before_change(called: str, paths: tuple[bytes, ...]) -> None:
        assert told is not None
        told(called, paths)
        if called == method:
            found.append(gap.instant)

    gap.rig.fs.before_change = before_change
    for _ in range(4):
        gap.rig.work()
    return found[0]


def test_i6_an_emptied_staging_tells_of_nothing() -> None:
    """The crash comes before the act; the user empties staging. The file was not put, so nobody has deleted it."""
    rig = Rig()
    author = Author(rig.bodies)
    rig.take([author.file(b"f", b"1")])
    _crash_at_change(rig, "rename")
    assert rig.catalog.intents()
    rig.fs.user_remove_tree(b".replicad/staging")
    rig.fs.user_mkdir(b".replicad/staging")
    rig.start()
    assert rig.catalog.node_at(1, b"f") is None
    assert rig.catalog.pending(1)
    rig.settle()
    assert rig.disk()[b"f"][2] == b"1"


def test_i6_an_old_version_is_not_taken_for_an_edit_where_staging_was_emptied() -> None:
    rig = _rig_with_file(b"old")
    author = Author(rig.bodies, time_ms=50_000)
    held = rig.catalog.object(rig.lead(b"f"))
    assert held is not None
    rig.take([author.edit(held.record, b"new")])
    _crash_at_change(rig, "exchange")
    rig.fs.user_remove_tree(b".replicad/staging")
    rig.fs.user_mkdir(b".replicad/staging")
    rig.start()
    state = rig.catalog.object(held.record.uid)
    assert state is not None
    assert state.base_content is not None
    assert state.base_content.digest == rig.bodies.add(b"old"), "what is on the disk is what was installed there before"
    rig.settle()
    assert rig.disk()[b"f"][2] == b"new"


def test_same_size_edits_made_while_the_daemon_was_down_are_not_taken_for_the_new_metadata() -> None:
    gap = Gap(BY_NAME["set mode and mtime"])
    assert _crash_at(gap, _instant_of(gap.story, "set_meta"))
    gap.rig.fs.user_write(b"f", b"OLD VERSION")
    gap.written.append(b"OLD VERSION")
    gap.take_versions()
    gap.rig.start()
    gap.check_end()
    state = gap.rig.catalog.object(gap.rig.lead(b"f"))
    assert state is not None
    assert state.record.content is not None
    assert state.record.content.digest == gap.rig.bodies.add(b"OLD VERSION"), "an edit is an edit"


def test_an_edit_made_while_the_daemon_was_down_is_found_also_where_its_mtime_was_set_back() -> None:
    gap = Gap(BY_NAME["set mode"])
    assert _crash_at(gap, _instant_of(gap.story, "set_mode"))
    before = gap.rig.fs.stat(b"f")
    assert before is not None
    gap.rig.fs.user_write(b"f", b"OLD VERSION")
    gap.rig.fs.user_set_mtime(b"f", before.mtime_ns)
    gap.written.append(b"OLD VERSION")
    gap.take_versions()
    gap.rig.start()
    gap.check_end()


# -- staging and the stores at the start


def test_a_file_in_staging_that_nobody_accounts_for_is_preserved() -> None:
    rig = _rig_with_file(b"1")
    rig.kill()
    rig.fs.user_write(b".replicad/staging/out-77", b"whose is it?")
    rig.start()
    assert rig.stored() == [b"whose is it?"]
    assert [(row.why, row.path) for row in rig.rows()] == [("found in staging after a crash", b"out-77")]
    assert rig.recovered.strays == 1
    assert rig.staging() == []


def test_what_lies_in_a_store_unlisted_is_listed_and_what_is_gone_is_not() -> None:
    gap = Gap(BY_NAME["put over another object"])
    gap.run()
    rig = gap.rig
    (row,) = rig.rows()
    rig.kill()
    rig.fs.user_unlink(b".replicad/" + row.store.encode() + b"/" + row.stored_name)
    rig.fs.user_write(b".replicad/PreExisting/12-1f-name of it", b"precious")
    rig.start()
    assert [(one.store, one.path, one.size) for one in rig.rows()] == [("PreExisting", b"name of it", 8)]


def test_a_store_that_somebody_cleared_away_is_made_again() -> None:
    gap = Gap(Story("conflict", one_file, edit_unseen, (b"f",)))
    gap.rig.fs.user_remove_tree(b".replicad/ConflictAndDeleted")
    gap.run()
    assert gap.rig.stored() == [b"old version"]
    gap.check_end()


def test_fetched_content_of_ours_is_cleaned_away_and_fetched_again() -> None:
    rig = Rig()
    author = Author(rig.bodies)
    rig.take([author.file(b"f", b"1")])
    rig.step()
    rig.bring()
    assert len(rig.staging()) == 1
    rig.crash()
    assert rig.staging() == []
    rig.settle()
    assert rig.disk()[b"f"][2] == b"1"


def test_a_directory_that_was_opened_for_a_moment_gets_its_mode_back() -> None:
    rig = Rig()
    author = Author(rig.bodies)
    made = author.directory(b"d", mode=0o555)
    rig.take([made])
    rig.settle()
    rig.take([author.file(b"f", b"1", made.uid)])
    _crash_at_change(rig, "rename")
    rig.fs.user_chmod(b"d", 0o555 | OWNER_MAY_FILL)  # as the act had left it
    rig.start()
    rig.settle()
    assert rig.disk()[b"d"][1] == 0o555


def test_what_came_out_is_listed_once_however_often_the_start_is_cut_off() -> None:
    rig = _rig_with_file(b"old")
    held = rig.catalog.object(rig.lead(b"f"))
    assert held is not None
    rig.take([edit_unseen(Author(rig.bodies), [held.record])[0]])
    _crash_before_the_last_commit(rig)
    for _ in range(3):
        rig.before_commit = _raise_crash
        with pytest.raises(Crash):
            rig.start()
        rig.kill()
    rig.start()
    rig.settle()
    assert rig.stored() == [b"old"]
    assert len(rig.rows()) == 1


def test_intents_of_acts_that_were_never_done_leave_nothing() -> None:
    rig = _rig_with_file(b"old")
    held = rig.catalog.object(rig.lead(b"f"))
    assert held is not None
    rig.take(edit(Author(rig.bodies, time_ms=50_000), [held.record]))
    _crash_at_change(rig, "exchange")
    (row,) = rig.catalog.intents()
    assert decode_intent(row.blob).step.object_kind == FILE
    rig.start()
    assert not rig.catalog.intents()
    assert rig.disk()[b"f"][2] == b"old"
    assert rig.recovered.dirty == []
    rig.settle()
    assert rig.disk()[b"f"][2] == b"new version"


def _raise_crash() -> None:
    raise Crash


def _rig_with_file(body: bytes) -> Rig:
    rig = Rig()
    rig.take([Author(rig.bodies).file(b"f", body)])
    rig.settle()
    rig.pass_quiet_time()
    return rig


def _crash_at_change(rig: Rig, method: str) -> None:
    """Killed before the first call of `method` in what follows."""

    def before_change(called: str, _paths: tuple[bytes, ...]) -> None:
        if called == method:
            raise Crash

    rig.fs.before_change = before_change
    with pytest.raises(Crash):
        rig.settle()
    rig.kill()


def _crash_before_the_last_commit(rig: Rig) -> None:
    """Killed when everything is done and synced, and nothing of it entered."""

    def before_change(called: str, _paths: tuple[bytes, ...]) -> None:
        if called == "sync_all":
            rig.before_commit = _raise_crash

    rig.fs.before_change = before_change
    with pytest.raises(Crash):
        rig.settle()
    rig.kill()
