"""`verify`: what no event and no time told of is found by reading, told from what is on its way, and never lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replicad.engine.verify import CHANGED, CONTENT, EXTRA, MISSING, PIECE_BYTES, UNREADABLE, Suspect, Walk
from replicad.engine.verifying import FETCHED, LOOKED_AT, NOT_TO_BE_HAD, REPORTED, TAKEN, Difference, Remedy
from replicad.files.fs import DIRECTORY
from tests.sim.group import Group
from tests.sim.member import SimMember, _Readers
from tests.sim.script import a_group

OLD, NEW = b"what was installed", b"what is there now!"
THROUGH_MS = 10_000


def two() -> tuple[Group, SimMember, SimMember]:
    group = a_group("ab")
    a, b = group["a"], group["b"]
    a.fs.user_mkdir(b"d")
    for path in (b"f", b"d/g"):
        a.fs.user_write(path, OLD)
    a.fs.user_symlink(b"l", b"target")
    group.heal()
    return group, a, b


def walk(member: SimMember, *, until: Callable[[], bool] = lambda: False) -> list[Suspect]:
    """All that one reading of the disk finds."""
    reading = Walk(_Readers(member.catalog).reader, member.fs)
    found: list[Suspect] = []
    piece = reading.piece()
    while not piece.done and not until():
        found += piece.suspects
        piece = reading.piece()
    reading.close()
    return found + piece.suspects


def judge(
    group: Group, member: SimMember, suspects: Sequence[Suspect], remedy: Remedy = Remedy.REPORT
) -> list[Difference]:
    """As daemon.verification does it: after one look at everything that has been told."""
    verifying = member.running.verifying
    assert verifying is not None
    verifying.begin(member.now_ms)
    member._schedule()
    for _ in range(THROUGH_MS):
        if verifying.through(member.now_ms) is not None:
            break
        group.run(1)
    assert verifying.through(member.now_ms) == ""
    verifying.end()
    found: list[Difference] = []

    def act(replica, now_ms: int):  # type: ignore[no-untyped-def]
        found.extend(verifying.judge(suspects, remedy))
        return replica.exchange.after_commit(now_ms)

    member.act(act)
    return found


def verify(group: Group, member: SimMember, remedy: Remedy = Remedy.REPORT) -> list[tuple[bytes, str, str]]:
    return [(one.path, one.kind, one.action) for one in judge(group, member, walk(member), remedy)]


def content(member: SimMember, path: bytes) -> bytes:
    return member.fs.read_tree()[path][1]


def kept(member: SimMember) -> list[bytes]:
    tree = member.fs.read_tree(private=True)
    return [data for path, (stat, data) in tree.items() if b"/Conflict" in path and stat.kind != DIRECTORY]


def test_nothing_is_reported_where_all_is_as_it_was_installed() -> None:
    group, a, b = two()
    assert verify(group, a) == []
    assert verify(group, b) == []
    group.heal()


def test_content_that_differs_though_its_times_are_the_same_is_reported_and_left_alone() -> None:
    group, a, b = two()
    b.fs.user_write_mapped(b"d/g", NEW)
    head = b.catalog.head
    assert verify(group, b) == [(b"d/g", CONTENT, REPORTED)]
    group.run(60_000)
    assert (content(b, b"d/g"), content(a, b"d/g"), b.catalog.head) == (NEW, OLD, head)
    assert verify(group, b) == [(b"d/g", CONTENT, REPORTED)], "it is as before"


def test_what_is_taken_is_an_edit_that_reaches_everybody() -> None:
    group, a, b = two()
    b.fs.user_write_mapped(b"d/g", NEW)
    assert verify(group, b, Remedy.TAKE) == [(b"d/g", CONTENT, TAKEN)]
    group.heal()
    assert (content(a, b"d/g"), content(b, b"d/g")) == (NEW, NEW)
    assert verify(group, b) == []


def test_i3_what_is_mended_is_fetched_again_and_what_was_there_is_preserved() -> None:
    group, a, b = two()
    b.fs.user_write_mapped(b"d/g", NEW)
    head = a.catalog.head
    assert verify(group, b, Remedy.MEND) == [(b"d/g", CONTENT, FETCHED)]
    group.run(20_000)
    assert content(b, b"d/g") == OLD
    assert kept(b) == [NEW]
    assert (content(a, b"d/g"), a.catalog.head) == (OLD, head), "nobody else hears of it"
    assert verify(group, b) == []
    group.heal()


def test_i3_what_no_member_in_contact_has_is_not_mended() -> None:
    group, a, b = two()
    a.stop()
    group.run(60_000)
    b.fs.user_write_mapped(b"d/g", NEW)
    assert verify(group, b, Remedy.MEND) == [(b"d/g", CONTENT, NOT_TO_BE_HAD)]
    group.run(20_000)
    assert content(b, b"d/g") == NEW


def test_i3_an_edit_made_while_it_is_mended_wins_and_nothing_is_lost() -> None:
    group, a, b = two()
    b.fs.user_write_mapped(b"d/g", NEW)
    group.network.weather.fetch_loss = 1.0
    verify(group, b, Remedy.MEND)
    group.run(1_000)
    b.fs.user_write(b"d/g", b"and now an edit")
    group.run(1_000)
    group.network.weather.fetch_loss = 0.0
    group.heal()
    assert (content(a, b"d/g"), content(b, b"d/g")) == (b"and now an edit", b"and now an edit")


def test_a_crash_in_the_middle_of_mending_leaves_it_to_be_mended() -> None:
    group, _, b = two()
    b.fs.user_write_mapped(b"d/g", NEW)
    group.network.weather.fetch_loss = 1.0
    verify(group, b, Remedy.MEND)
    b.crash()
    group.network.weather.fetch_loss = 0.0
    b.start()
    group.run(60_000)
    assert content(b, b"d/g") == OLD
    assert kept(b) == [NEW]


def test_what_nothing_told_of_is_reported_and_looked_at() -> None:
    group, a, b = two()
    b.fs.on_entry = None  # the watch is deaf from now on
    b.fs.user_write(b"f", b"edited")
    b.fs.user_unlink(b"d/g")
    b.fs.user_write(b"d/new", b"new")
    watch = b.watch
    suspects = walk(b)
    b.fs.on_entry = watch._on_entry
    found = judge(group, b, suspects)
    assert sorted((one.path, one.kind, one.action) for one in found) == [
        (b"d/g", MISSING, LOOKED_AT),
        (b"d/new", EXTRA, LOOKED_AT),
        (b"f", CHANGED, LOOKED_AT),
    ]
    group.heal()
    assert set(a.fs.read_tree()) == {b"d", b"d/new", b"f", b"l"}
    assert content(a, b"f") == b"edited"


def test_what_is_only_on_its_way_is_no_difference() -> None:
    group, _, b = two()
    b.fs.user_write(b"f", b"edited")
    b.fs.user_unlink(b"d/g")
    b.fs.user_write(b"d/new", b"new")
    suspects = walk(b)
    assert len(suspects) == 3
    assert judge(group, b, suspects) == []
    group.heal()


def test_a_file_that_is_changed_while_it_is_read_is_no_difference() -> None:
    group, _, b = two()
    b.fs.user_write_mapped(b"f", NEW)
    suspects = walk(b)
    assert [suspect.kind for suspect in suspects] == [CONTENT]
    b.fs.user_write(b"f", NEW + b", and more")
    assert judge(group, b, suspects, Remedy.MEND) == []
    group.heal()
    assert content(b, b"f") == NEW + b", and more"


def test_a_file_that_the_disk_cannot_read_is_reported_with_the_reason() -> None:
    group, _, b = two()

    def fail(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "read_at" and paths == (b"d/g",):
            raise OSError(5, "as the test wants it")

    b.fs.before_read, before = fail, b.fs.before_read
    suspects = walk(b)
    b.fs.before_read = before
    (found,) = judge(group, b, suspects)
    assert (found.path, found.kind, found.action) == (b"d/g", UNREADABLE, REPORTED)
    assert "input/output error" in found.reason


def test_i8_a_large_file_is_read_in_pieces() -> None:
    group, a, _ = two()
    a.fs.user_write(b"big", bytes(3 * PIECE_BYTES))
    group.run(60_000)
    reading = Walk(_Readers(a.catalog).reader, a.fs)
    pieces = []
    while not pieces or not pieces[-1].done:
        pieces.append(reading.piece())
    assert max(piece.bytes for piece in pieces) <= PIECE_BYTES
    assert sum(piece.bytes for piece in pieces) == 3 * PIECE_BYTES + 2 * len(OLD)
    assert sum(piece.entries for piece in pieces) == 5
    assert a.fs.open_files == {}
