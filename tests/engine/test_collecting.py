"""ConflictAndDeleted within its quota, and the disk's last free space (engine.collecting)."""

from __future__ import annotations

import errno

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING
from replicad.core.effects import Effect, Report
from replicad.engine.collecting import CHECK_MS, COLLECTED_A_STEP, RESERVE_BYTES, Collecting, no_room_to_keep
from replicad.engine.disposal import preserve, stranger
from replicad.engine.settings import FolderSettings
from tests.engine.rig import Rig

HOUR_MS = 3_600_000
SETTINGS = FolderSettings(preserved_quota_bytes=1_000, preserved_min_age_ms=HOUR_MS)


def keep(rig: Rig, count: int, size: int = 10, store: str = CONFLICT_AND_DELETED) -> None:
    """So many files preserved, a second after each other, the first 0."""
    for number in range(count):
        rig.fs.user_write(b"f", b"%0*d" % (size, number))
        stat = rig.fs.stat(b"f")
        assert stat is not None
        change = preserve(rig.fs, b"f", rig.catalog.new_id(), store, stranger(stat, b"f"), "why", rig.now_ms)
        assert change is not None
        rig.catalog.commit(None, [change], now_ms=rig.now_ms)
        rig.now_ms += 1_000


def numbers(rig: Rig, store: str = CONFLICT_AND_DELETED) -> list[int]:
    listed = sum(row.store == store for row in rig.rows())
    found = [int(data) for data in rig.stored(store)]
    assert listed == len(found), "the list and the store are one"
    return found


def collect(rig: Rig, collecting: Collecting, settings: FolderSettings = SETTINGS) -> list[Effect]:
    """To its end; at most one step's files at a time."""
    effects: list[Effect] = []
    while True:
        before = len(rig.rows())
        effects += collecting.work(settings, rig.now_ms)
        assert before - len(rig.rows()) <= COLLECTED_A_STEP
        if collecting.next_due_ms(rig.now_ms) != rig.now_ms:
            return effects


def test_the_oldest_go_from_ninety_percent_down_to_sixty() -> None:
    rig = Rig()
    keep(rig, 90)
    rig.now_ms += 2 * HOUR_MS
    collecting = Collecting(rig.catalog, rig.fs)
    assert collect(rig, collecting) == []
    assert len(numbers(rig)) == 90, "90 % is not above 90 %"
    keep(rig, 1)
    rig.now_ms += CHECK_MS
    (report, _) = collect(rig, collecting)
    assert numbers(rig) == [0, *range(31, 90)], "60 %: the one kept last has the number 0 again"
    assert report == Report(0, "31 files, 310 bytes, were deleted from ConflictAndDeleted: too full")


def test_nothing_younger_than_the_minimum_age_goes_whatever_the_quota() -> None:
    rig = Rig()
    keep(rig, 100)
    rig.now_ms += HOUR_MS - 80_000  # those from number 21 on are younger than an hour
    collecting = Collecting(rig.catalog, rig.fs)
    collect(rig, collecting)
    assert numbers(rig) == list(range(21, 100))
    rig.now_ms += HOUR_MS // 2 + 100_000
    keep(rig, 200)
    collect(rig, collecting)
    assert len(numbers(rig)) == 200, "far beyond the quota"


def test_a_file_of_the_future_is_young() -> None:
    """The clock was set back."""
    rig = Rig()
    keep(rig, 100)
    rig.now_ms -= 10 * HOUR_MS
    collect(rig, Collecting(rig.catalog, rig.fs))
    assert len(numbers(rig)) == 100


def test_pre_existing_is_the_operators_alone() -> None:
    rig = Rig()
    keep(rig, 200, store=PRE_EXISTING)
    keep(rig, 100)
    rig.now_ms += 2 * HOUR_MS
    collect(rig, Collecting(rig.catalog, rig.fs))
    assert len(numbers(rig, PRE_EXISTING)) == 200
    assert len(numbers(rig)) == 60


def test_it_goes_in_steps_and_to_its_end() -> None:
    rig = Rig()
    keep(rig, 300)
    rig.now_ms += 2 * HOUR_MS
    collect(rig, Collecting(rig.catalog, rig.fs), FolderSettings(preserved_quota_bytes=0, preserved_min_age_ms=0))
    assert numbers(rig) == []


def test_what_is_old_makes_room_where_the_disk_is_nearly_full_though_the_quota_is_not_reached() -> None:
    rig = Rig()
    keep(rig, 20)
    rig.fs.free_bytes = lambda: RESERVE_BYTES - 55 + 10 * (20 - len(rig.rows()))  # type: ignore[method-assign]
    collecting = Collecting(rig.catalog, rig.fs)
    collect(rig, collecting)
    assert len(numbers(rig)) == 20, "they are young"
    rig.now_ms += 2 * HOUR_MS
    collect(rig, collecting)
    assert numbers(rig) == list(range(6, 20)), "the oldest, as many as are needed"


def test_a_directory_that_was_preserved_goes_with_all_that_is_in_it() -> None:
    rig = Rig()
    rig.fs.user_mkdir(b"d")
    rig.fs.user_mkdir(b"d/e")
    rig.fs.user_write(b"d/e/f", b"1")
    stat = rig.fs.stat(b"d")
    assert stat is not None
    change = preserve(rig.fs, b"d", rig.catalog.new_id(), CONFLICT_AND_DELETED, stranger(stat, b"d"), "why", 0)
    assert change is not None
    rig.catalog.commit(None, [change], now_ms=rig.now_ms)
    keep(rig, 100)
    rig.now_ms += 2 * HOUR_MS
    collect(rig, Collecting(rig.catalog, rig.fs))
    assert len(rig.rows()) == 60
    assert rig.fs.list_dir(b".replicad/ConflictAndDeleted")[0][1].size == 10, "the directory was the oldest"


def test_content_is_fetched_only_where_the_reserve_stays_free() -> None:
    rig = Rig()
    assert no_room_to_keep(rig.fs, 1 << 40) == ""
    rig.fs.free_bytes = lambda: RESERVE_BYTES + 100  # type: ignore[method-assign]
    assert no_room_to_keep(rig.fs, 100) == ""
    assert "last free space" in no_room_to_keep(rig.fs, 101)


def test_of_a_small_disk_only_a_hundredth_is_left_alone() -> None:
    rig = Rig()
    rig.fs.tree.capacity_bytes = 100_000
    free = rig.fs.free_bytes()
    assert no_room_to_keep(rig.fs, free - 1_000) == ""
    assert "1000 stay free" in no_room_to_keep(rig.fs, free - 999)


def test_i10_what_the_disk_does_not_let_go_of_stays_and_is_told_once() -> None:
    rig = Rig()
    keep(rig, 100)
    rig.now_ms += 2 * HOUR_MS
    stubborn = {row.stored_name for row in rig.rows()[:3]}

    def refuse(method: str, paths: tuple[bytes, ...]) -> None:
        if method == "unlink" and any(path.rpartition(b"/")[2] in stubborn for path in paths):
            raise OSError(errno.EPERM, "immutable")

    rig.fs.before_change = refuse
    collecting = Collecting(rig.catalog, rig.fs)
    effects = collect(rig, collecting)
    texts = [effect.text for effect in effects if isinstance(effect, Report)]
    assert texts[0] == "ConflictAndDeleted cannot be kept within its quota: the system does not allow it"
    assert len(texts) == 2
    assert numbers(rig) == [0, 1, 2, *range(43, 100)]
    keep(rig, 50)
    rig.now_ms += 2 * HOUR_MS
    assert not [one for one in collect(rig, collecting) if isinstance(one, Report) and "cannot" in one.text]
