"""Stamps, registers and which of two wins: DESIGN section 3, the rules on records."""

from __future__ import annotations

from itertools import permutations, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.ids import COUNTER_MAX, REPLICA_MAX, ROOT
from replicad.core.records import (
    DEPTH_MAX,
    DIRECTORY,
    ENTRY,
    FILE,
    KIND_MAX,
    REGISTER_BYTES_MAX,
    SYMLINK,
    TARGET_BYTES_MAX,
    TIME_MS_MAX,
    VECTOR_ENTRIES_MAX,
    ZERO,
    Content,
    Place,
    Record,
    Register,
    Stamp,
    contains,
    content_key,
    encode,
    joined_vector,
    merge,
    next_time,
    open_content,
    open_place,
    open_record,
    place_key,
    record,
    usable,
    vector_after,
)
from replicad.errors import ProtocolError
from tests.core.make import content, gone, place, uid

X = uid(1)

stamps = st.tuples(st.integers(0, 3), st.integers(1, 3))
places = st.builds(
    lambda stamp, counter, name: place(ROOT, name, stamp[0], replica=stamp[1], counter=counter),
    stamps,
    st.integers(1, 3),
    st.sampled_from([b"a", b"b"]),
)
seen = st.sampled_from([None, None, ZERO, Stamp(1, 1), Stamp(1, 2), Stamp(2, 1), Stamp(3, 3)])
contents = st.builds(
    lambda stamp, counter, value, gone: content(stamp[0], value, gone=gone, replica=stamp[1], counter=counter),
    stamps,
    st.integers(1, 3),
    st.integers(0, 1),
    seen,
)
records = st.builds(
    lambda where, what: record(X, FILE, where, what if what is not None or where is not None else content(1)),
    st.none() | places,
    st.none() | contents,
)


def of_content(what: Content) -> Record:
    return record(X, FILE, place(ROOT, b"n", 1), what)


def winner(*contents_: Content) -> Content:
    """What stands after all of these came, in whatever order."""
    winners = []
    for order in permutations(contents_):
        held: Record | None = None
        for one in order:
            held = merge(held, of_content(one)).record
        assert held is not None
        winners.append(held.content)
    assert len(set(winners)) == 1
    assert winners[0] is not None
    return winners[0]


# -- the order


@given(st.lists(contents, min_size=3, max_size=3))
def test_the_order_of_contents_is_total_and_transitive(found: list[Content]) -> None:
    a, b, c = (content_key(of_content(one)) for one in found)
    assert (a < b) + (b < a) + (a == b) == 1
    assert (a == b) == (encode(found[0]) == encode(found[1]))
    assert not (a < b and b < c) or a < c


@given(st.lists(places, min_size=3, max_size=3))
def test_the_order_of_places_is_total_and_transitive(found: list[Place]) -> None:
    a, b, c = (place_key(record(X, FILE, one, None)) for one in found)
    assert (a < b) + (b < a) + (a == b) == 1
    assert (a == b) == (encode(found[0]) == encode(found[1]))
    assert not (a < b and b < c) or a < c


@given(records, records, records)
def test_i1_merging_is_commutative_associative_and_idempotent(a: Record, b: Record, c: Record) -> None:
    assert merge(a, b).record == merge(b, a).record
    assert merge(merge(a, b).record, c).record == merge(a, merge(b, c).record).record
    assert merge(a, a).record is a
    assert merge(None, a).record is a


@given(records, records)
def test_a_merge_tells_which_registers_came_with_the_incoming_record(held: Record, incoming: Record) -> None:
    merged = merge(held, incoming)
    assert merged.place_changed == (merged.record.place_raw != held.place_raw)
    assert merged.content_changed == (merged.record.content_raw != held.content_raw)
    assert (merged.record is held) == (not merged.place_changed and not merged.content_changed)


def test_a_rename_and_an_edit_merge_without_a_conflict() -> None:
    base = record(X, FILE, place(ROOT, b"f", 1), content(1, 1))
    renamed = record(X, FILE, place(ROOT, b"g", 5), None)
    edited = record(X, FILE, None, content(4, 2))
    merged = merge(merge(base, renamed).record, edited).record
    assert (merged.place, merged.content) == (renamed.place, edited.content)


def test_the_higher_stamp_wins_whatever_the_vectors_say() -> None:
    """Ordering by version vector first is not transitive: of these three each would then beat another one.

    `c` has seen `a`, so by vectors it would beat it although its stamp is lower; `b` lies between the two.
    """
    a = content(30, 1, replica=1)
    b = content(20, 2, replica=2)
    c = content(10, 3, replica=3, vector=((1, a.counter),))
    assert winner(a, b, c) == a
    assert contains(c, a)


def test_of_two_with_one_stamp_the_greater_encoding_wins() -> None:
    one, other = content(5, 1), content(5, 2)
    assert winner(one, other) == max(one, other, key=encode)


kinds = st.sampled_from([FILE, DIRECTORY, SYMLINK])
faulty = st.builds(lambda kind, place, content: record(X, kind, place, content), kinds, places, st.none() | contents)


@given(faulty, faulty, faulty)
def test_i1_kinds_that_differ_by_a_fault_become_one_everywhere(a: Record, b: Record, c: Record) -> None:
    assert merge(a, b).record == merge(b, a).record
    assert merge(merge(a, b).record, c).record == merge(a, merge(b, c).record).record


def test_of_two_kinds_a_directory_stands_and_else_that_of_the_content() -> None:
    here = place(ROOT, b"f", 1)
    file, directory = record(X, FILE, here, content(9, 1)), record(X, DIRECTORY, here, content(5, 0))
    link = record(X, SYMLINK, here, content(7, 2))
    assert merge(file, directory).record.kind == DIRECTORY
    assert merge(file, link).record.kind == FILE
    assert merge(record(X, FILE, here, content(6, 1)), link).record.kind == SYMLINK
    assert merge(record(X, FILE, here, None), link).record.kind == SYMLINK


# -- gone


def test_a_deletion_beats_what_the_deleter_had_seen_and_all_before_it() -> None:
    assert winner(content(10, 1), content(20, 2), gone(30, 20)).gone == Stamp(20, 7)


def test_s4_an_edit_concurrent_with_a_deletion_beats_it_however_late_the_deletion_was() -> None:
    edit = content(20, 2, replica=2)
    assert winner(content(10, 1), edit, gone(90, 10)) == edit


def test_s3_the_deletion_that_had_seen_more_wins_over_one_that_came_later() -> None:
    """B edits 101 to 102 and deletes that; A deletes 101 later by the clock: gone orders by what it had seen."""
    by_b, by_a = gone(30, 20, replica=2), gone(90, 10, replica=1)
    assert winner(content(10, 1), content(20, 2, replica=2), by_b, by_a) == by_b


def test_of_two_deletions_of_one_content_the_later_stamp_stands() -> None:
    early, late = gone(20, 10, replica=9), gone(30, 10, replica=1)
    assert winner(content(10, 1), early, late) == late


def test_a_deletion_of_an_original_beats_every_original() -> None:
    deletion = gone(5, 0)
    originals = [content(0, value, replica=replica) for value, replica in product((1, 2), (1, REPLICA_MAX))]
    assert winner(deletion, *originals[:3]) == deletion
    assert winner(content(1, 5), deletion, originals[0]).gone is None


# -- originals


def test_a_record_is_an_original_while_both_of_its_registers_are() -> None:
    assert record(X, FILE, place(ROOT, b"f", 0), content(0)).original
    assert not record(X, FILE, place(ROOT, b"f", 1), content(0)).original
    assert not record(X, FILE, place(ROOT, b"f", 0), content(1)).original
    assert not record(X, FILE, None, content(0)).original
    assert (place(ROOT, b"f", 0).stamp, content(0).stamp, content(3).stamp) == (ZERO, ZERO, Stamp(3, 7))


# -- version vectors


def test_a_version_contains_itself_and_what_its_vector_names() -> None:
    first = content(1, 1, replica=1, counter=5)
    second = content(2, 2, replica=2, counter=8, vector=vector_after(first))
    third = content(3, 3, replica=3, counter=1, vector=vector_after(second))
    assert third.vector == ((2, 8), (1, 5))
    assert all(contains(later, earlier) for later, earlier in ((first, first), (second, first), (third, first)))
    assert not contains(first, second)
    assert contains(third, content(1, 9, replica=1, counter=4))
    assert not contains(third, content(1, 9, replica=1, counter=6))


def test_s12_a_later_version_of_ones_own_contains_the_earlier_ones_by_its_cn_alone() -> None:
    earlier = content(2, 2, replica=2, counter=8)
    later = content(9, 3, replica=2, counter=11, vector=((1, 5),))
    assert contains(later, earlier)
    assert not contains(earlier, later)


def test_an_original_is_in_every_version_but_another_original_and_what_nobody_saw() -> None:
    original, other = content(0, 1, replica=1, counter=1), content(0, 2, replica=2, counter=1)
    edit = content(5, 3, replica=3, counter=1, vector=vector_after(other))
    assert contains(edit, original)
    assert not contains(other, original)
    unseen = gone(9, 0, replica=3)
    assert unseen.vector == ()
    assert not contains(unseen, original)
    assert contains(original, original)


def test_s28_another_change_with_the_same_cn_has_not_seen_the_first() -> None:
    """A catalog that was copied has made both: neither is a version of the other."""
    one, other = content(5, 1, replica=1, counter=1), content(6, 2, replica=1, counter=1)
    assert not contains(one, other)
    assert not contains(other, one)


def test_what_was_deleted_unseen_contains_nothing() -> None:
    """Rule 3: whoever has the content on its disk preserves it, its author too."""
    assert not contains(gone(9, 5, replica=2), content(5, 1, replica=2, counter=1))


def test_s33_an_original_is_no_part_of_a_new_object_of_that_name() -> None:
    created = content(5, 8, replica=2, counter=3)
    assert created.vector == ()
    assert not contains(created, content(0, 7, replica=1, counter=1))


def test_a_vector_keeps_the_most_recent_entries() -> None:
    register: Register | None = None
    for replica in range(1, VECTOR_ENTRIES_MAX + 10):
        register = content(replica, 0, replica=replica, counter=1, vector=vector_after(register))
    assert register is not None
    assert len(vector_after(register)) == VECTOR_ENTRIES_MAX
    assert vector_after(register)[0] == (VECTOR_ENTRIES_MAX + 9, 1)
    assert vector_after(None) == ()


def test_an_author_takes_one_entry_however_often_it_writes() -> None:
    register: Register | None = None
    for counter in range(1, 200):
        replica = 1 + counter % 2
        register = content(counter, 0, replica=replica, counter=counter, vector=vector_after(register))
    assert register is not None
    assert vector_after(register) == ((2, 199), (1, 198))


def test_who_saw_several_versions_names_each_of_them_first() -> None:
    full = tuple((replica, 1) for replica in range(100, 100 + VECTOR_ENTRIES_MAX))
    one, other = (
        content(1, replica=1, counter=5, vector=full),
        content(2, replica=2, counter=6, vector=((1, 9), (3, 1))),
    )
    joined = joined_vector((one, other))
    assert joined[:2] == ((1, 9), (2, 6))
    assert len(joined) == VECTOR_ENTRIES_MAX


# -- logical time


@given(st.integers(-5, 50), st.lists(contents, max_size=3))
def test_the_time_of_a_change_grows_along_its_chain(now_ms: int, last: list[Content]) -> None:
    time_ms = next_time(now_ms, *last)
    assert time_ms >= max(now_ms, 1)
    change = content(time_ms, replica=1, counter=9)
    assert all(content_key(of_content(change)) > content_key(of_content(before)) for before in last)


def test_s20_a_clock_that_was_ahead_is_outrun_by_one() -> None:
    ahead = content(10**15, replica=1)
    assert next_time(1000, ahead) == 10**15 + 1
    assert next_time(1000) == 1000
    assert next_time(1000, None, gone(5, 10**15)) == 10**15 + 1


def test_time_stays_at_its_limit_where_a_fault_has_brought_it_there() -> None:
    """Else a change would be made that every peer refuses, and the object could never be changed again."""
    assert next_time(5, content(TIME_MS_MAX)) == next_time(2**60) == TIME_MS_MAX
    before = content(TIME_MS_MAX, replica=7, counter=300)
    again = content(TIME_MS_MAX, replica=7, counter=301)
    assert winner(before, again) == again


# -- the wire


@given(places, contents)
def test_what_is_encoded_is_opened_to_the_same_value(where: Place, what: Content) -> None:
    made = record(X, FILE, where, what)
    assert open_record(X, FILE, made.place_raw, made.content_raw) == made


def with_more(register: Register, *more: object) -> bytes:
    fields = msgspec.msgpack.decode(encode(register))
    return msgspec.msgpack.encode([*fields, *more])


def test_fields_that_are_not_known_survive_and_decide_like_any_other_byte() -> None:
    raw = with_more(content(5, 1), {"acl": [1, 2]}, b"x")
    opened = open_content(raw)
    assert opened == content(5, 1)
    plain, newer = of_content(content(5, 1)), open_record(X, FILE, b"", raw)
    assert (
        merge(plain, newer).record.content_raw == merge(newer, plain).record.content_raw == max(plain.content_raw, raw)
    )
    passed_on = merge(record(X, FILE, place(ROOT, b"n", 1), None), newer).record
    assert passed_on.content_raw == raw
    assert open_place(with_more(place(ROOT, b"n", 1), 1.5, None, "text")) == place(ROOT, b"n", 1)


@pytest.mark.parametrize("at", range(4, 8))
def test_a_place_of_which_only_the_envelope_can_be_read_is_held_and_not_usable(at: int) -> None:
    fields = msgspec.msgpack.decode(encode(place(uid(2), b"n", 9, vector=((3, 4),))))
    fields[at] = {"a newer": "form"}
    raw = msgspec.msgpack.encode(fields)
    opened = open_record(X, FILE, raw, encode(content(1)))
    assert opened.place is not None
    assert (opened.place.stamp, opened.place.vector, opened.place_raw) == (Stamp(9, 7), ((3, 4),), raw)
    assert not usable(opened)


@pytest.mark.parametrize("at", range(5, 10))
def test_a_content_of_which_only_the_envelope_can_be_read_is_held_and_not_usable(at: int) -> None:
    fields = msgspec.msgpack.decode(encode(content(9, 1, vector=((3, 4),))))
    fields[at] = {"a newer": "form"}
    for kind in (FILE, DIRECTORY, SYMLINK, ENTRY):
        opened = open_record(X, kind, encode(place(ROOT, b"n", 1)), msgspec.msgpack.encode(fields))
        assert opened.live
        assert opened.content is not None
        assert (opened.content.rank, opened.content.vector) == (Stamp(9, 7), ((3, 4),))
        assert not usable(opened)


def test_a_parent_of_another_form_is_held_and_not_usable() -> None:
    for raw in (encode(place(b"x" * 24, b"n", 1)), encode(place(ROOT, b"n", 1, prior=(b"x" * 15, b"m")))):
        assert not usable(open_record(X, FILE, raw, encode(content(1))))


def replaced(register: Register, **changes: object) -> bytes:
    return encode(msgspec.structs.replace(register, **changes))


BAD_ENVELOPES: list[dict[str, object]] = [
    {"replica": 0},
    {"replica": -1},
    {"counter": 0},
    {"counter": COUNTER_MAX + 1},
    {"time_ms": -1},
    {"time_ms": TIME_MS_MAX + 1},
    {"vector": tuple((replica, 1) for replica in range(1, VECTOR_ENTRIES_MAX + 2))},
    {"vector": ((0, 1),)},
    {"vector": ((1, 0),)},
    {"vector": ((1, COUNTER_MAX + 1),)},
]


@pytest.mark.parametrize("changes", BAD_ENVELOPES, ids=str)
def test_i8_a_malformed_envelope_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        open_place(replaced(place(ROOT, b"n", 1), **changes))
    with pytest.raises(ProtocolError):
        open_content(replaced(content(1), **changes))


@pytest.mark.parametrize(
    "seen_by_it", [Stamp(-1, 1), Stamp(TIME_MS_MAX + 1, 1), Stamp(1, -1), Stamp(0, 1), Stamp(1, 0)], ids=str
)
def test_a_deletion_that_claims_to_have_seen_no_stamp_there_can_be_is_refused(seen_by_it: Stamp) -> None:
    with pytest.raises(ProtocolError):
        open_content(encode(content(1, gone=seen_by_it)))


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x93\x01\x01\x01", b"\xff" * 9, b"\x98\x01"], ids=bytes.hex)
def test_bytes_that_are_no_register_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_place(raw)
    with pytest.raises(ProtocolError):
        open_content(raw)


def test_a_record_with_a_malformed_uid_kind_or_without_a_register_is_refused() -> None:
    raw = encode(content(1))
    for bad in (b"", b"x" * 15, b"x" * 17, b"x" * 21):
        with pytest.raises(ProtocolError):
            open_record(bad, FILE, b"", raw)
    for kind in (0, -1, KIND_MAX + 1):
        with pytest.raises(ProtocolError):
            open_record(X, kind, b"", raw)
    with pytest.raises(ProtocolError):
        open_record(X, FILE, b"", b"")
    assert open_record(b"x" * 20, KIND_MAX, b"", raw).kind == KIND_MAX


def test_i8_a_register_that_is_too_long_is_refused() -> None:
    room = REGISTER_BYTES_MAX - len(encode(content(1))) - 8
    assert open_content(replaced(content(1), value=b"x" * room)).value == b"x" * room
    with pytest.raises(ProtocolError):
        open_content(replaced(content(1), value=b"x" * REGISTER_BYTES_MAX))


def nested(levels: int) -> object:
    found: object = 1
    for _ in range(levels):
        found = [found]
    return found


def test_i8_fields_that_are_not_known_may_not_be_deep_whatever_the_stack_allows() -> None:
    assert open_content(with_more(content(1), nested(DEPTH_MAX - 1))) == content(1)
    for register in (content(1), place(ROOT, b"n", 1)):
        for levels in (DEPTH_MAX, 60_000):
            head, body = bytes([encode(register)[0] + 1]), encode(register)[1:]
            raw = head + body + b"\x91" * levels + b"\x01"
            with pytest.raises(ProtocolError):
                open_content(raw) if isinstance(register, Content) else open_place(raw)
    fields = msgspec.msgpack.decode(encode(content(1, gone=Stamp(1, 1))))
    fields[4].append(nested(DEPTH_MAX))
    with pytest.raises(ProtocolError):
        open_content(msgspec.msgpack.encode(fields))


# -- usable


def test_what_a_disk_can_take_is_usable() -> None:
    where = place(ROOT, b"n", 1)
    assert usable(record(X, FILE, where, content(1)))
    assert usable(record(X, DIRECTORY, where, content(1, 0o755, kind=DIRECTORY)))
    assert usable(record(X, SYMLINK, where, content(1, kind=SYMLINK)))
    assert usable(record(X, FILE, where, gone(1, 1)))
    assert usable(record(X, ENTRY, place(ROOT, b"a/b" * 200, 1), content(1)))
    assert usable(record(X, FILE, place(ROOT, b"\xff" * 255, 1), content(1)))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"x" * 256])
def test_a_name_that_no_disk_can_hold_is_not_usable(name: bytes) -> None:
    assert not usable(record(X, FILE, place(ROOT, name, 1), content(1)))
    assert not usable(record(X, FILE, place(ROOT, name, 1), gone(1, 1)))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (FILE, {"digest": b"x" * 31}),
        (FILE, {"mode": 0o10000}),
        (FILE, {"mode": -1}),
        (FILE, {"size": -1}),
        (FILE, {"size": 2**63}),
        (FILE, {"mtime_ns": 2**63}),
        (DIRECTORY, {"mode": 0o10000}),
        (SYMLINK, {"value": b""}),
        (SYMLINK, {"value": b"a\0"}),
        (SYMLINK, {"value": b"x" * (TARGET_BYTES_MAX + 1)}),
        (KIND_MAX, {}),
    ],
    ids=str,
)
def test_a_content_that_no_disk_can_be_given_is_not_usable(kind: int, changes: dict[str, object]) -> None:
    what = msgspec.structs.replace(content(1, kind=kind), **changes)
    opened = open_record(X, kind, encode(place(ROOT, b"n", 1)), encode(what))
    assert not usable(opened)
