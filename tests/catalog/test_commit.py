"""Commits: one transaction, positions in order, constraints, what does not fit SQLite's integers."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replicad.catalog import store
from replicad.catalog.changes import AddIntents, Intent, RenewReplica, SetMeta, SetReplicaOwner, TakeInvitation
from replicad.catalog.database import MemoryDatabase
from replicad.catalog.store import Catalog
from replicad.catalog.summary import Summary
from replicad.core.cnset import CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Cn, uid_of
from replicad.core.records import ENTRY, Stamp, encode, record
from replicad.core.view import ROOT_NODE, ObjectState
from replicad.errors import CatalogError
from tests.catalog.making import FOLDER, OWN, content, created, node, place, with_content


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.open(None, FOLDER, lambda: OWN)


def add(catalog: Catalog, *names: bytes) -> list[bytes]:
    draft = Draft(catalog)
    uids = []
    for name in names:
        held = created(draft.allocate(), name=name)
        draft.put(ObjectState(held))
        uids.append(held.uid)
    catalog.commit(draft, now_ms=1)
    return uids


def positions(catalog: Catalog, uids: list[bytes]) -> list[int]:
    return [state.position for state in (catalog.object(uid) for uid in uids) if state is not None]


def test_positions_follow_the_order_of_storing(catalog: Catalog) -> None:
    uids = add(catalog, b"a", b"b", b"c")
    assert positions(catalog, uids) == [1, 2, 3]
    draft = Draft(catalog)
    for uid in (uids[2], uids[0], uids[2]):  # the last change of c comes after that of a
        state = draft.object(uid)
        assert state is not None
        draft.put(msgspec.structs.replace(state, record=with_content(state.record, content(draft.allocate()))))
    assert catalog.commit(draft, now_ms=2) == 5
    assert positions(catalog, uids) == [4, 2, 5]


def test_a_state_without_a_new_record_keeps_its_position_and_time(catalog: Catalog) -> None:
    (uid,) = add(catalog, b"a")
    draft = Draft(catalog)
    draft.update(uid, kept=True)
    assert catalog.commit(draft, now_ms=99) == 1
    assert positions(catalog, [uid]) == [1]
    assert catalog.tally(catalog.known).oldest_ms == 1


def test_a_position_does_not_come_again_when_the_newest_object_is_dropped(catalog: Catalog) -> None:
    _, last = add(catalog, b"a", b"b")
    draft = Draft(catalog)
    draft.drop(last)
    assert catalog.commit(draft, now_ms=2) == 2
    assert positions(catalog, add(catalog, b"c")) == [3]


def test_two_entries_may_swap_their_names_in_one_commit(catalog: Catalog) -> None:
    draft = Draft(catalog)
    one, other = node(draft.new_node_id(), name=b"a", inode=1), node(draft.new_node_id(), name=b"b", inode=2)
    draft.put_node(one)
    draft.put_node(other)
    catalog.commit(draft, now_ms=1)
    draft = Draft(catalog)
    draft.put_node(msgspec.structs.replace(one, name=b"b"))
    draft.put_node(msgspec.structs.replace(other, name=b"a"))
    catalog.commit(draft, now_ms=2)
    assert [found.inode for found in catalog.nodes_in(1)] == [2, 1]


def test_two_entries_of_one_name_are_a_bug_and_nothing_is_stored(catalog: Catalog) -> None:
    draft = Draft(catalog)
    draft.put(ObjectState(created(draft.allocate())))
    entry = draft.new_node_id()
    draft.put_node(node(entry, name=b"a"))
    entry = draft.new_node_id()
    draft.put_node(node(entry, name=b"a"))
    with pytest.raises(sqlite3.IntegrityError):
        catalog.commit(draft, now_ms=1)
    assert (catalog.head, catalog.counter, catalog.known.count(), catalog.node(16)) == (0, 0, 0, None)
    assert positions(catalog, add(catalog, b"a")) == [1]


def test_i5_a_counter_of_a_commit_that_failed_is_free_and_one_that_succeeded_is_not(catalog: Catalog) -> None:
    failed = Draft(catalog)
    failed.put(ObjectState(created(failed.allocate())))
    with pytest.raises(AssertionError):
        catalog.commit(failed, [TakeInvitation(b"not there")], now_ms=1)
    draft = Draft(catalog)
    assert draft.allocate() == Cn(OWN, 1)
    catalog.commit(draft, now_ms=1)
    assert Draft(catalog).allocate() == Cn(OWN, 2)


def test_a_failed_commit_leaves_no_replica_id_behind(catalog: Catalog) -> None:
    with pytest.raises(AssertionError):
        catalog.commit(None, [SetReplicaOwner(77, "m"), TakeInvitation(b"not there")], now_ms=1)
    assert dict(catalog.replicas()) == {OWN: None}
    catalog.commit(None, [SetReplicaOwner(78, "m")], now_ms=1)
    assert catalog.reader().replica_owner(78) == "m"


@pytest.mark.parametrize("replica", [OWN, 7])
def test_a_draft_over_an_older_state_is_refused(catalog: Catalog, replica: int) -> None:
    older, newer = Draft(catalog), Draft(catalog)
    older.put(ObjectState(created(Cn(8, 1))))
    cn = newer.allocate() if replica == OWN else Cn(replica, 1)
    newer.learn(CNSet.of([cn]))
    newer.put(ObjectState(created(cn)))
    catalog.commit(newer, now_ms=1)
    with pytest.raises(AssertionError, match="over an older state"):
        catalog.commit(older, now_ms=2)
    assert catalog.faults() == []


def test_a_digest_that_lost_count_is_not_stored(catalog: Catalog) -> None:
    draft = Draft(catalog)
    draft.put(ObjectState(created(draft.allocate())))
    draft.digest += 1
    with pytest.raises(AssertionError, match="lost count"):
        catalog.commit(draft, now_ms=1)
    assert catalog.head == 0


def test_a_draft_over_another_catalog_is_refused(catalog: Catalog) -> None:
    with pytest.raises(AssertionError, match="another view"):
        catalog.commit(Draft(Catalog.open(None, FOLDER, lambda: OWN)), now_ms=1)


def test_only_the_thread_that_opened_it_writes(tmp_path: Path) -> None:
    catalogs = [Catalog.open(source, FOLDER, lambda: OWN) for source in (None, tmp_path / "a.db")]
    raised: list[BaseException] = []

    def elsewhere() -> None:
        for catalog in catalogs:
            try:
                catalog.commit(None, [SetMeta("x", b"1")], now_ms=1)
            except AssertionError as error:
                raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(raised) == 2
    assert [catalog.meta("x") for catalog in catalogs] == [None, None]
    catalogs[1].close()


def test_counts_follow_an_object_from_pending_to_installed_to_gone(catalog: Catalog) -> None:
    draft = Draft(catalog)
    held = created(draft.allocate(), size=7)
    draft.put(ObjectState(held, pending=True))
    catalog.commit(draft, now_ms=5)
    assert (catalog.counts(), catalog.pending_tally()) == ((1, 7), (1, 7, 5))
    assert catalog.first_tombstone_ms() is None
    draft = Draft(catalog)
    number = draft.new_node_id()
    draft.put_node(node(number))
    draft.update(held.uid, node=number, pending=False)
    catalog.commit(draft, now_ms=6)
    assert (catalog.counts(), catalog.pending_tally()) == ((1, 7), (0, 0, None))
    draft = Draft(catalog)
    gone = with_content(held, content(draft.allocate(), gone=Stamp(1, OWN)))
    draft.update(held.uid, record=gone, base_content_raw=held.content_raw, pending=True)
    catalog.commit(draft, now_ms=7)
    assert (catalog.counts(), catalog.pending_tally()) == ((0, 0), (1, 0, 7))
    assert catalog.first_tombstone_ms() == 7
    draft = Draft(catalog)
    draft.drop(held.uid)
    catalog.commit(draft, now_ms=8)
    assert (catalog.counts(), catalog.pending_tally()) == ((0, 0), (0, 0, None))
    assert catalog.first_tombstone_ms() is None
    assert catalog.not_installed() == CNSet()


def test_the_catalogs_own_entries_are_its_own(catalog: Catalog) -> None:
    with pytest.raises(AssertionError):
        catalog.commit(None, [SetMeta("catalog.counter", b"0")], now_ms=1)


def test_a_renewed_replica_id_counts_from_1_and_was_never_seen(catalog: Catalog) -> None:
    add(catalog, b"a", b"b")
    catalog.commit(None, [RenewReplica(0xABCD)], now_ms=2)
    assert (catalog.replica, catalog.counter, catalog.head) == (0xABCD, 0, 2)
    assert Draft(catalog).allocate() == Cn(0xABCD, 1)
    for seen in (OWN, 0xABCD):
        with pytest.raises(AssertionError, match="seen before"):
            catalog.commit(None, [RenewReplica(seen)], now_ms=3)


def test_numbers_beyond_sqlites_integers_are_stored(catalog: Catalog) -> None:
    draft = Draft(catalog)
    for index in range(40):
        cn = Cn(2**64 - 1, 2**63 - 1 - index)
        draft.put(ObjectState(record(uid_of(cn), 1, place(cn, name=b"%d" % index), content(cn, size=2**64 - 1))))
        draft.learn(Draft(catalog).known.add([cn]))
    draft.put_node(node(draft.new_node_id(), inode=2**64 - 2))
    catalog.commit(draft, now_ms=1)
    assert catalog.tally(catalog.known).bytes == 40 * 2**62 == catalog.counts()[1]
    assert catalog.faults() == []
    assert [found.id for found in catalog.node_by_inode(2**64 - 2)] == [16]
    held = catalog.with_cns(catalog.known, 1)[0]
    assert held.content is not None
    assert held.content.size == 2**64 - 1


def test_a_record_of_a_newer_version_is_stored_as_received(catalog: Catalog) -> None:
    cn = Cn(7, 1)
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(content(cn))), {"later": [1, 2]}])
    one = msgspec.structs.replace(created(cn, kind=200), content_raw=newer)
    draft = Draft(catalog)
    draft.put(ObjectState(one))
    draft.learn(Draft(catalog).known.add([cn]))
    catalog.commit(draft, now_ms=1)
    found = catalog.object(one.uid)
    assert found is not None
    assert (found.record.kind, found.record.content_raw) == (200, newer)
    assert catalog.page(0, catalog.known.minus(catalog.known), 10, 10_000).records[0].content == newer


def test_an_error_of_the_disk_is_an_error_of_the_catalog_and_leaves_the_last_commit(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "a.db", FOLDER, lambda: OWN)
    add(catalog, b"a")
    catalog._db.execute(f"PRAGMA max_page_count = {catalog._db.execute('PRAGMA page_count').fetchone()[0] + 3}")
    with pytest.raises(CatalogError, match="full"):
        add(catalog, *(b"%0200d" % index for index in range(2_000)))
    assert (catalog.head, catalog.counter) == (1, 1)
    catalog._db.execute("PRAGMA max_page_count = 100000")
    assert positions(catalog, add(catalog, b"b")) == [2]
    catalog.close()


def test_a_commit_of_nothing_writes_nothing(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "a.db", FOLDER, lambda: OWN)
    add(catalog, b"a")
    log = tmp_path / "a.db-wal"
    size = log.stat().st_size
    for draft in (None, Draft(catalog)):
        assert catalog.commit(draft, now_ms=2) == 1
    assert log.stat().st_size == size
    learning = Draft(catalog)
    learning.learn(CNSet.span(7, 1, 3))
    catalog.commit(learning, now_ms=3)
    assert log.stat().st_size > size
    with catalog.reader() as reader:
        assert reader.known.last(7) == 3
    catalog.close()


def test_i5_a_catalog_that_cannot_go_back_to_its_last_commit_is_not_written_any_more(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> Summary:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(store, "load_summary", unreadable)
        with pytest.raises(CatalogError, match="disk I/O error"):
            catalog.commit(None, [TakeInvitation(b"not there")], now_ms=1)
    with pytest.raises(CatalogError, match="restart the daemon"):
        add(catalog, b"a")


class Interrupted:
    """A connection that is interrupted when a commit has taken effect, before anyone hears of it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._writing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        done = self._db.execute(sql, *parameters)
        if sql == "COMMIT" and self._writing:
            raise KeyboardInterrupt
        self._writing |= sql == "BEGIN IMMEDIATE"
        return done


def test_what_was_looked_up_is_asked_again_where_a_commit_was_interrupted(catalog: Catalog) -> None:
    asked = [catalog.present_named(ROOT, b"a"), catalog.node_at(ROOT_NODE, b"a")]
    assert [bool(answer) for answer in asked] == [False, False]
    db = catalog._db
    catalog._db = Interrupted(db)  # type: ignore[assignment]
    draft = Draft(catalog)
    held = created(draft.allocate(), name=b"a")
    entry = draft.new_node_id()
    draft.put_node(node(entry, name=b"a"))
    draft.put(ObjectState(held, node=entry))
    with pytest.raises(KeyboardInterrupt):
        catalog.commit(draft, now_ms=1)
    catalog._db = db
    assert list(catalog.present_named(ROOT, b"a")) == [held.uid]
    found = catalog.node_at(ROOT_NODE, b"a")
    assert found is not None
    assert list(catalog.uids_at(found.id)) == [held.uid]


def test_i12_a_crash_in_the_middle_of_a_commit_leaves_the_last_one() -> None:
    database = MemoryDatabase()
    catalog = Catalog.open(database, FOLDER, lambda: OWN)
    add(catalog, b"a")
    backup = database.copy()
    database.connection.execute("BEGIN IMMEDIATE")
    database.connection.execute("DELETE FROM object")
    del catalog
    again = Catalog.open(database, FOLDER, lambda: 5)
    assert (again.replica, again.counts()[0], again.faults()) == (OWN, 1, [])
    add(again, b"b")
    assert Catalog.open(backup, FOLDER, lambda: 5).counts()[0] == 1


def test_ids_are_not_given_twice_over_a_reopening() -> None:
    database = MemoryDatabase()
    catalog = Catalog.open(database, FOLDER, lambda: OWN)
    first = catalog.new_id()
    catalog.commit(None, [AddIntents((Intent(first, b"one"),))], now_ms=1)
    assert Catalog.open(database, FOLDER, lambda: OWN).new_id() == first + 1


def test_an_entry_of_the_hierarchy_is_an_object_like_others(catalog: Catalog) -> None:
    draft = Draft(catalog)
    cn = draft.allocate()
    draft.put(ObjectState(record(bytes(20), ENTRY, place(cn, name=b"member/x"), content(cn, size=0))))
    catalog.commit(draft, now_ms=1)
    assert catalog.named(b"", b"member/x") == [bytes(20)]
    assert not catalog.present_named(b"", b"member/x")
