"""Bookkeeping: each change is read back, and goes with its commit."""

from __future__ import annotations

import msgspec
import pytest

from replicad.catalog.changes import (
    CONFLICT_AND_DELETED,
    PRE_EXISTING,
    AddIntents,
    AddOut,
    AddPreserved,
    Change,
    ClearIntents,
    Intent,
    Invitation,
    Manifest,
    Out,
    Peer,
    Preserved,
    PutInvitation,
    PutManifest,
    RemoveInvitation,
    RemoveManifests,
    RemoveOut,
    RemovePreserved,
    Series,
    SetMeta,
    SetPeer,
    SetReplicaOwner,
    SetSeries,
    TakeInvitation,
)
from replicad.catalog.store import Catalog
from tests.catalog.making import FOLDER, OWN

M, N = "aa" * 32, "bb" * 32
FAR = 2**64 - 3


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.open(None, FOLDER, lambda: OWN)


def commit(catalog: Catalog, *changes: Change, now_ms: int = 1_000) -> None:
    assert catalog.commit(None, changes, now_ms=now_ms) == 0


def test_series_are_kept_per_member_and_replica_id(catalog: Catalog) -> None:
    commit(catalog, SetSeries(Series(M, FAR, 5, 9)), SetSeries(Series(M, 3, 1, 1)), SetSeries(Series(N, 3, 2, 2)))
    commit(catalog, SetSeries(Series(M, FAR, 9, 9)))
    assert catalog.series(M) == [Series(M, 3, 1, 1), Series(M, FAR, 9, 9)]
    assert catalog.series("cc" * 32) == []


def test_peers_are_replaced_whole(catalog: Catalog) -> None:
    first = Peer(M, b"status", 3, b"mark", 4, b"next", 77)
    commit(catalog, SetPeer(first), SetPeer(Peer(N)))
    assert catalog.peers() == [first, Peer(N)]
    second = msgspec.structs.replace(first, session=4, session_mark=b"next", next_session=0, next_session_mark=b"")
    commit(catalog, SetPeer(second))
    assert (catalog.peer(M), catalog.peer("cc" * 32)) == (second, None)


def test_intents_come_back_in_order_until_they_are_cleared(catalog: Catalog) -> None:
    intents = tuple(Intent(catalog.new_id(), b"%d" % index) for index in range(3))
    commit(catalog, AddIntents(intents))
    assert catalog.intents() == list(intents)
    commit(catalog, ClearIntents((intents[0].intent_id, intents[2].intent_id)))
    assert catalog.intents() == [intents[1]]


def preserved(catalog: Catalog, store: str, size: int = 5, uid: bytes | None = None) -> Preserved:
    return Preserved(
        catalog.new_id(), store, b"d/\xff", 1, size, bytes(32), uid, FAR if uid else None, 9, "conflict", b"name"
    )


def test_preserved_files_are_listed_in_pages_and_tallied_by_store(catalog: Catalog) -> None:
    kept = [
        preserved(catalog, CONFLICT_AND_DELETED, 5, bytes(16)),
        preserved(catalog, PRE_EXISTING, 6),
        preserved(catalog, PRE_EXISTING, 7),
    ]
    commit(catalog, *map(AddPreserved, kept))
    assert catalog.preserved(2) == kept[:2]
    assert catalog.preserved(2, kept[1].preserved_id) == kept[2:]
    assert catalog.preserved_tally(PRE_EXISTING) == (2, 13)
    assert catalog.preserved_tally(CONFLICT_AND_DELETED) == (1, 5)
    commit(catalog, RemovePreserved((kept[1].preserved_id,)))
    assert catalog.preserved_tally(PRE_EXISTING) == (1, 7)
    assert catalog.preserved_file(kept[0].preserved_id) == kept[0]
    assert catalog.preserved_file(kept[1].preserved_id) is None


def test_a_preserved_content_is_found_by_its_digest_in_either_store_the_newest_first(catalog: Catalog) -> None:
    old, new = preserved(catalog, CONFLICT_AND_DELETED), preserved(catalog, PRE_EXISTING)
    other = msgspec.structs.replace(preserved(catalog, PRE_EXISTING), digest=b"d" * 32)
    commit(catalog, *map(AddPreserved, (old, new, other)))
    assert catalog.kept(bytes(32)) == [new, old]
    assert catalog.kept(bytes(32), 1) == [new]
    assert catalog.kept(b"e" * 32) == []
    commit(catalog, RemovePreserved((other.preserved_id,)))
    assert catalog.kept(b"d" * 32) == []


def test_what_was_lifted_out_comes_when_it_is_due(catalog: Catalog) -> None:
    outs = [Out(catalog.new_id(), b"s%d" % due, b"blob", due) for due in (30, 10, 20)]
    commit(catalog, *map(AddOut, outs))
    assert catalog.outs(20) == [outs[1], outs[2]]
    assert catalog.outs(99, limit=1) == [outs[1]]
    commit(catalog, RemoveOut((outs[1].out_id,)))
    assert catalog.outs(99) == [outs[2], outs[0]]


def test_a_manifest_stays_as_it_was_first_put(catalog: Catalog) -> None:
    one = Manifest(bytes(32), b"pages", 2**40)
    commit(catalog, PutManifest(one), PutManifest(msgspec.structs.replace(one, blob=b"other")))
    assert catalog.manifest(bytes(32)) == one
    commit(catalog, RemoveManifests((bytes(32),)))
    assert catalog.manifest(bytes(32)) is None


def test_entries_of_meta_are_set_and_removed(catalog: Catalog) -> None:
    commit(catalog, SetMeta("purged", b"\x90"), SetMeta("marker", b""))
    assert (catalog.meta("purged"), catalog.meta("marker"), catalog.meta("other")) == (b"\x90", b"", None)
    commit(catalog, SetMeta("purged", None))
    assert catalog.meta("purged") is None


def test_a_replica_id_gets_its_owner_before_or_after_it_is_seen(catalog: Catalog) -> None:
    commit(catalog, SetReplicaOwner(FAR, M))
    commit(catalog, SetReplicaOwner(OWN, N))
    commit(catalog, SetSeries(Series(M, 12, 0, 0)))
    assert dict(catalog.replicas()) == {OWN: N, FAR: M, 12: None}
    assert (catalog.replica_owner(FAR), catalog.replica_owner(12), catalog.replica_owner(13)) == (M, None, None)


def test_an_invitation_is_used_up_and_expires(catalog: Catalog) -> None:
    commit(catalog, PutInvitation(Invitation(b"t", b"blob", 2, 5_000)))
    commit(catalog, TakeInvitation(b"t"))
    assert catalog.invitation(b"t") == Invitation(b"t", b"blob", 1, 5_000)
    with pytest.raises(AssertionError, match="expired"):
        commit(catalog, TakeInvitation(b"t"), now_ms=5_000)
    commit(catalog, TakeInvitation(b"t"))
    assert catalog.invitation(b"t") is None
    with pytest.raises(AssertionError, match="not there"):
        commit(catalog, TakeInvitation(b"t"))


def test_invitations_are_listed_and_revoked(catalog: Catalog) -> None:
    both = [Invitation(b"a", b"1", 1, 9), Invitation(b"b", b"2", 1, 9)]
    commit(catalog, *map(PutInvitation, reversed(both)))
    assert catalog.invitations() == both
    commit(catalog, RemoveInvitation(b"a"))
    assert catalog.invitations() == both[1:]
