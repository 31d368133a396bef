from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import msgspec
import pytest

from replicad.core import hierarchy_entries as entries
from replicad.core.draft import Draft
from replicad.core.hierarchy_entries import absorb_entries, check_entry, encode_value, open_entry, write_entry
from replicad.core.hierarchy_model import HierarchyModel
from replicad.core.ids import ROOT, named_uid
from replicad.core.memory_view import MemoryView
from replicad.core.naming import folder_id
from replicad.core.records import Record
from replicad.errors import ProtocolError

GROUP = bytes(range(16))
CERTIFICATE = b"certificate of a"
A = hashlib.sha256(CERTIFICATE).hexdigest()
B = hashlib.sha256(b"certificate of b").hexdigest()
DOCS = folder_id(GROUP, "docs")


def sign(certificate: bytes, statement: bytes) -> bytes:
    return hashlib.sha256(certificate + statement).digest()


def verify(certificate: bytes, signature: bytes, statement: bytes) -> bool:
    return signature == sign(certificate, statement)


def catalog(replica: int = 7) -> MemoryView:
    return MemoryView(b"", replica)


def write(view: MemoryView, key: bytes, value: entries.Value | None, now_ms: int = 1_000) -> bool:
    draft = Draft(view)
    changed = write_entry(draft, key, value, now_ms)
    view.apply(draft)
    return changed


def records(view: MemoryView) -> list[Record]:
    return [state.record for state in view.objects(view.children(ROOT))]


def take(view: MemoryView, incoming: list[Record]) -> None:
    draft = Draft(view)
    absorb_entries(draft, incoming)
    view.apply(draft)


def model(view: MemoryView) -> HierarchyModel:
    made = HierarchyModel(GROUP, verify)
    made.apply(records(view))
    return made


def test_an_entry_is_an_object_whose_uid_is_made_of_its_key_and_is_one_change() -> None:
    view = catalog()
    assert write(view, entries.member_key(A), entries.Member("alpha", CERTIFICATE))
    (held,) = records(view)
    assert held.uid == named_uid(b"member/" + A.encode())
    assert set(held.cns()) == {held.cns()[0]}
    assert view.counter == 1
    entry = open_entry(held)
    assert entry is not None
    assert (entry.kind, entry.names) == ("member", (A,))
    assert entry.value == entries.Member("alpha", CERTIFICATE)


def test_a_value_that_is_there_already_is_not_written() -> None:
    view = catalog()
    value = entries.Addresses(("alpha:7722",))
    assert write(view, entries.addresses_key(A), value)
    assert not write(view, entries.addresses_key(A), value, 2_000)
    assert view.counter == 1


def test_an_entry_can_go_and_come_back() -> None:
    view = catalog()
    key = entries.folder_member_key(DOCS, A)
    write(view, key, entries.FolderMember(True, entries.JOINED))
    assert write(view, key, None)
    assert open_entry(records(view)[0]) is None
    assert not write(view, key, None)
    assert write(view, key, entries.FolderMember(True, entries.DECLARED), 1)
    assert open_entry(records(view)[0]) is not None
    assert len(records(view)) == 1


def test_to_take_away_what_never_was_is_no_change() -> None:
    assert not write(catalog(), entries.folder_key(DOCS), None)


def test_two_members_that_write_one_entry_at_once_have_one_object_and_one_value() -> None:
    one, other = catalog(7), catalog(8)
    write(one, entries.folder_key(DOCS), entries.Folder("docs", {"conflicts": "preserve"}))
    write(other, entries.folder_key(DOCS), entries.Folder("docs", {}))
    ours, theirs = records(one), records(other)
    take(one, theirs)
    take(other, ours)
    assert records(one) == records(other)
    assert len(records(one)) == 1


def test_an_edit_that_had_not_seen_a_removal_of_the_entry_beats_it() -> None:
    one, other = catalog(7), catalog(8)
    key = entries.setting_key("retention")
    write(one, key, entries.Setting(1), 1_000)
    take(other, records(one))
    write(one, key, None, 2_000)
    write(other, key, entries.Setting(2), 1_500)
    take(one, records(other))
    entry = open_entry(records(one)[0])
    assert entry is not None
    assert entry.value == entries.Setting(2)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a", True),
        ("node-1.example_x", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        (".hidden", False),
        ("-x", False),
        ("a b", False),
        ("a/b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_names_of_members_and_folders(name: str, allowed: bool) -> None:
    assert entries.valid_name(name) is allowed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"member/short", entries.Member("a", b"c")),
        (b"member/" + A.upper().encode(), entries.Member("a", b"c")),
        (b"unknown/" + A.encode(), entries.Setting(1)),
        (b"folder/" + b"0" * 31, entries.Folder("docs", {})),
        (b"\xff", entries.Setting(1)),
        (b"", entries.Setting(1)),
        (entries.member_key(A), entries.Member("no such name", b"c")),
        (entries.member_key(A), entries.Member("a", b"c" * 3_000)),
        (entries.member_key(A), entries.Setting(5)),
        (entries.addresses_key(A), entries.Addresses(("a:1",) * 17)),
        (entries.addresses_key(A), entries.Addresses(("a:1\n",))),
        (entries.addresses_key(A), entries.Addresses(("x" * 300,))),
        (entries.folder_key(DOCS), entries.Folder("docs", {str(number): 1 for number in range(65)})),
        (entries.folder_member_key(DOCS, A), entries.FolderMember(True, "by magic")),
        (entries.replica_key(DOCS, 7), entries.ReplicaOwner(b"short", b"")),
        (entries.founded_key(DOCS, A), entries.Founded(1, (b"short",))),
        (entries.setting_key("s"), entries.Setting("x" * 60_000)),
    ],
)
def test_what_does_not_hold_to_the_rules_is_neither_written_nor_shown(key: bytes, value: entries.Value) -> None:
    with pytest.raises(ProtocolError):
        check_entry(key, encode_value(value))
    with pytest.raises(ProtocolError):
        write_entry(Draft(catalog()), key, value, 1)


def test_fields_that_later_versions_append_are_not_known_and_not_lost() -> None:
    later = msgspec.msgpack.encode(["alpha", CERTIFICATE, "a field of version 9"])
    assert check_entry(entries.member_key(A), later).value == entries.Member("alpha", CERTIFICATE)


def test_a_statement_about_a_replica_id_says_one_thing() -> None:
    said = {
        entries.replica_statement(folder, replica)
        for folder in (b"", bytes(15) + b"\1", bytes(range(16)))
        for replica in (1, 2**64 - 1)
    }
    assert len(said) == 6
    assert len({len(one) for one in said}) == 1


# -- the read model


def filled() -> MemoryView:
    view = catalog()
    write(view, entries.member_key(A), entries.Member("alpha", CERTIFICATE))
    write(view, entries.addresses_key(A), entries.Addresses(("alpha:7722",)))
    write(view, entries.folder_key(DOCS), entries.Folder("docs", {"conflicts": "preserve"}))
    write(view, entries.folder_member_key(DOCS, A), entries.FolderMember(True, entries.CREATED))
    statement = entries.replica_statement(DOCS, 99)
    owner = entries.ReplicaOwner(bytes.fromhex(A), sign(CERTIFICATE, statement))
    write(view, entries.replica_key(DOCS, 99), owner)
    write(view, entries.setting_key("retention"), entries.Setting(60))
    return view


def test_the_reading_says_who_and_what_there_is() -> None:
    reading = model(filled()).reading()
    assert reading.members[A].name == "alpha"
    assert reading.members[A].addresses == ("alpha:7722",)
    assert reading.members_by_name == {"alpha": (A,)}
    folder = reading.folders_by_name["docs"]
    assert (folder.folder, folder.settings, set(folder.members)) == (DOCS, {"conflicts": "preserve"}, {A})
    assert folder.founded is None
    assert reading.replica_owners == {(DOCS, 99): A}
    assert reading.settings == {"retention": 60}
    assert reading.unusable == {}


def test_a_removed_member_is_hidden_everywhere_whatever_is_written_of_it_later() -> None:
    view = filled()
    write(view, entries.removed_key(A), entries.Removed(5))
    write(view, entries.member_key(A), entries.Member("again", CERTIFICATE), 9_000)
    reading = model(view).reading()
    assert reading.members == {}
    assert reading.removed == {A}
    assert reading.folders_by_name["docs"].members == {}
    assert reading.replica_owners == {(DOCS, 99): A}


def test_a_member_has_lapsed_until_it_is_written_living_and_not_once_it_is_removed() -> None:
    view = catalog()
    write(view, entries.member_key(A), entries.Member("alpha", CERTIFICATE))
    write(view, entries.lapsed_key(A), entries.Lapsed(2_000, 1_000))
    write(view, entries.lapsed_key(B), entries.Lapsed(2_000, 1_000))
    assert model(view).reading().lapsed == {A: entries.Lapsed(2_000, 1_000)}, "b is no member"
    write(view, entries.lapsed_key(A), None)
    assert model(view).reading().lapsed == {}
    write(view, entries.lapsed_key(A), entries.Lapsed(3_000, 1_000))
    assert model(view).reading().lapsed == {A: entries.Lapsed(3_000, 1_000)}
    write(view, entries.removed_key(A), entries.Removed(4_000))
    assert model(view).reading().lapsed == {}


def test_a_certificate_of_another_member_is_not_shown() -> None:
    view = catalog()
    write(view, entries.member_key(B), entries.Member("beta", CERTIFICATE))
    reading = model(view).reading()
    assert reading.members == {}
    assert reading.unusable == {entries.member_key(B): "its certificate is not that of this member"}


def test_a_folder_whose_id_is_not_that_of_its_name_is_not_shown() -> None:
    view = catalog()
    write(view, entries.folder_key(DOCS), entries.Folder("other", {}))
    reading = model(view).reading()
    assert reading.folders == {}
    assert list(reading.unusable) == [entries.folder_key(DOCS)]


def test_a_replica_id_that_its_member_did_not_sign_is_not_shown() -> None:
    view = filled()
    forged = entries.ReplicaOwner(bytes.fromhex(A), sign(CERTIFICATE, entries.replica_statement(DOCS, 99)))
    write(view, entries.replica_key(DOCS, 100), forged)
    reading = model(view).reading()
    assert set(reading.replica_owners) == {(DOCS, 99)}
    assert list(reading.unusable) == [entries.replica_key(DOCS, 100)]


def test_of_several_ends_of_a_founding_the_earliest_stands() -> None:
    view = filled()
    for member, time_ms in ((A, 500), (B, 400)):
        write(view, entries.founded_key(DOCS, member), entries.Founded(time_ms, (bytes.fromhex(member),)))
    founded = model(view).reading().folders[DOCS].founded
    assert founded is not None
    assert founded.time_ms == 400


def test_the_end_of_a_founding_of_several_stands_before_an_older_one_of_a_member_that_was_alone() -> None:
    view = filled()
    both = (bytes.fromhex(A), bytes.fromhex(B))
    write(view, entries.founded_key(DOCS, A), entries.Founded(500, both))
    write(view, entries.founded_key(DOCS, B), entries.Founded(400, both[1:]))
    founded = model(view).reading().folders[DOCS].founded
    assert founded is not None
    assert founded.founders == both


def test_an_entry_under_anothers_uid_is_not_shown() -> None:
    view = filled()
    (stolen,) = (held for held in records(view) if held.place is not None and held.place.name.startswith(b"member/"))
    other = msgspec.structs.replace(stolen, uid=named_uid(entries.member_key(B)))
    made = HierarchyModel(GROUP, verify)
    made.apply([other])
    assert made.reading().members == {}
    assert made.reading().unusable


def test_every_key_of_a_folder_is_found_but_its_replica_ids() -> None:
    view = filled()
    write(view, entries.folder_member_key(DOCS, B), entries.FolderMember(True, entries.JOINED))
    write(view, entries.founded_key(DOCS, B), entries.Founded(1, ()))
    assert set(model(view).keys_of_folder(DOCS)) == {
        entries.folder_key(DOCS),
        entries.folder_member_key(DOCS, A),
        entries.folder_member_key(DOCS, B),
        entries.founded_key(DOCS, B),
    }


@pytest.mark.parametrize("seed", range(30))
def test_the_model_kept_up_entry_by_entry_says_what_one_made_anew_says(seed: int) -> None:
    rng = random.Random(seed)
    view = catalog()
    kept = HierarchyModel(GROUP, verify)
    members = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(3)]
    folders = [folder_id(GROUP, name) for name in ("a", "b")]
    writes: list[Callable[[], tuple[bytes, entries.Value | None]]] = [
        lambda: (entries.member_key(rng.choice(members)), entries.Member(rng.choice("xyz"), b"%d" % rng.randrange(3))),
        lambda: (entries.removed_key(rng.choice(members)), rng.choice([None, entries.Removed(1)])),
        lambda: (entries.addresses_key(rng.choice(members)), entries.Addresses((rng.choice("xyz"),))),
        lambda: (entries.folder_key(rng.choice(folders)), rng.choice([None, entries.Folder(rng.choice("ab"), {})])),
        lambda: (
            entries.folder_member_key(rng.choice(folders), rng.choice(members)),
            rng.choice([None, entries.FolderMember(True, entries.JOINED)]),
        ),
        lambda: (entries.founded_key(rng.choice(folders), rng.choice(members)), entries.Founded(rng.randrange(9), ())),
    ]
    for step in range(60):
        key, value = rng.choice(writes)()
        if write(view, key, value, step):
            (held,) = (one for one in records(view) if one.uid == named_uid(key))
            kept.apply([held])
            if step % 3 == 0:
                assert kept.reading() == model(view).reading()
    assert kept.reading() == model(view).reading()
    assert kept.reading().unusable == model(view).reading().unusable
