"""Pages, backlogs and what is not installed, each against a reading of every object."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.catalog import missing, pages
from replicad.catalog.pages import Tally
from replicad.catalog.store import Catalog
from replicad.core.cnset import EMPTY, CNSet
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Cn, Uid
from replicad.core.messages import WireRecord, seal, unseal
from replicad.core.records import Record, open_record, record
from replicad.core.view import ObjectState
from tests.catalog.making import FOLDER, FOREIGN, OWN, Step, content, created, place, run, steps, with_content

REPLICAS = (OWN, *FOREIGN)
cnsets = st.lists(st.tuples(st.sampled_from(REPLICAS), st.integers(1, 30)), max_size=40).map(
    lambda pairs: CNSet.of(Cn(*pair) for pair in pairs)
)


def catalog_of(commits: list[list[Step]]) -> tuple[Catalog, list[Uid]]:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    uids: list[Uid] = []
    for now_ms, commit in enumerate(commits):
        draft = Draft(catalog)
        run(draft, uids, commit)
        catalog.commit(draft, now_ms=now_ms)
    return catalog, uids


def states_of(catalog: Catalog, uids: list[Uid]) -> list[ObjectState]:
    return sorted(catalog.objects(uids), key=lambda state: state.position)


def lacking(held: Record, base: CNSet) -> WireRecord | None:
    """What somebody who knows `base` must be given of this record."""
    place_lacks = held.place is not None and held.place.cn not in base
    content_lacks = held.content is not None and held.content.cn not in base
    return seal(held, place=place_lacks, content=content_lacks) if place_lacks or content_lacks else None


@settings(max_examples=200, deadline=None)
@given(steps, cnsets, st.integers(1, 5), st.integers(1, 400), st.integers(1, 6), st.integers(0, 20))
def test_the_pages_of_a_series_are_all_records_that_the_base_lacks(
    commits: list[list[Step]], base: CNSet, records_max: int, bytes_max: int, scan_max: int, start: int
) -> None:
    catalog, uids = catalog_of(commits)
    after = min(start, catalog.head)
    states = [state for state in states_of(catalog, uids) if state.position > after]
    expected = [wire for wire in (lacking(state.record, base) for state in states) if wire is not None]
    found: list[WireRecord] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pages, "PAGE_SCAN_ROWS_MAX", scan_max)
        while True:
            page = catalog.page(after, base, records_max, bytes_max)
            assert (page.begin, page.head, page.replica) == (after, catalog.head, OWN)
            assert len(page.records) <= records_max
            assert len(page.records) == 1 or sum(len(r.place + r.content) for r in page.records) <= bytes_max
            assert page.cns == CNSet.of(cn for wire in page.records for cn in unseal(wire).cns())
            assert page.known == (catalog.known if page.end == page.head else None)
            found.extend(page.records)
            if page.end == page.head:
                break
            assert page.end > after, "a page that is not the last one gets on"
            after = page.end
    assert found == expected


def taken(held: Record | None, given_: Record) -> Record:
    """The random operations do not care which register wins, so what came last stands."""
    if held is None:
        return given_
    return open_record(held.uid, held.kind, given_.place_raw or held.place_raw, given_.content_raw or held.content_raw)


@settings(max_examples=60, deadline=None)
@given(steps, steps, st.integers(1, 3))
def test_i2_who_pulls_while_records_move_on_ends_with_all_that_is_known(
    before: list[list[Step]], meanwhile: list[list[Step]], records_max: int
) -> None:
    """The knowledge rule: pages by rising position, the whole set only at the head; the sender changes in between."""
    sender, uids = catalog_of(before)
    held: dict[Uid, Record] = {}
    known, after = EMPTY, 0
    while True:
        page = sender.page(after, known, records_max, 1_000_000)
        for wire in page.records:
            held[wire.uid] = taken(held.get(wire.uid), unseal(wire))
        known, after = known.union(page.cns), page.end
        if page.known is not None:
            known = known.union(page.known)
            if not meanwhile:
                break
        if meanwhile:
            draft = Draft(sender)
            run(draft, uids, meanwhile.pop())
            sender.commit(draft, now_ms=1)
    assert known == sender.known
    for state in sender.objects(uids):
        mine = held[state.record.uid]
        assert (mine.place_raw, mine.content_raw) == (state.record.place_raw, state.record.content_raw)


def trap() -> tuple[Catalog, CNSet]:
    """The sender holds X only as (B,9), which superseded (A,5); it knows A:1-100. And Y, stored after it."""
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    a, b = FOREIGN
    x = created(Cn(a, 5), name=b"x")
    draft = Draft(catalog)
    draft.put(ObjectState(created(Cn(a, 6), name=b"y")))
    draft.learn(CNSet.span(a, 1, 100))
    catalog.commit(draft, now_ms=1)
    draft = Draft(catalog)
    draft.put(ObjectState(record(x.uid, x.kind, place(Cn(b, 9), name=b"x"), content(Cn(b, 9)))))
    draft.learn(CNSet.of([Cn(b, 9)]))
    catalog.commit(draft, now_ms=2)
    return catalog, catalog.known


def test_i2_s18_a_page_before_the_head_tells_of_no_cn_but_its_records() -> None:
    catalog, known = trap()
    page = catalog.page(0, EMPTY, 1, 1_000_000)
    assert page.known is None
    assert page.cns == CNSet.of([Cn(FOREIGN[0], 6)])
    last = catalog.page(page.end, page.cns, 1, 1_000_000)
    assert last.known == known
    assert [wire.place != b"" for wire in last.records] == [True]


@pytest.mark.requirement("D3")
@pytest.mark.parametrize(("records_max", "bytes_max"), [(2, 1_000_000), (512, 200)])
def test_what_does_not_fit_comes_with_the_next_page(records_max: int, bytes_max: int) -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    draft = Draft(catalog)
    for index in range(5):
        draft.put(ObjectState(created(draft.allocate(), name=b"%d" % index)))
    catalog.commit(draft, now_ms=1)
    first = catalog.page(0, EMPTY, records_max, bytes_max)
    assert (len(first.records), first.end) == (2, 2)
    second = catalog.page(2, EMPTY, records_max, bytes_max)
    assert (len(second.records), second.end) == (2, 4)
    last = catalog.page(4, EMPTY, records_max, bytes_max)
    assert (len(last.records), last.end, last.known) == (1, 5, catalog.known)


def test_only_the_register_that_the_base_lacks_is_given() -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    draft = Draft(catalog)
    held = created(draft.allocate())
    draft.put(ObjectState(with_content(held, content(draft.allocate(), size=99))))
    catalog.commit(draft, now_ms=1)
    (wire,) = catalog.page(0, CNSet.of([Cn(OWN, 1)]), 10, 10_000).records
    assert (wire.place, wire.content != b"") == (b"", True)


def test_a_page_that_only_skips_ends_and_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_SCAN_ROWS_MAX", 10)
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    draft = Draft(catalog)
    for index in range(25):
        draft.put(ObjectState(created(draft.allocate(), name=b"%d" % index)))
    catalog.commit(draft, now_ms=1)
    ends = []
    after = 0
    while after < catalog.head:
        page = catalog.page(after, catalog.known, 512, 1_000_000)
        assert not page.records
        after = page.end
        ends.append(after)
    assert ends == [10, 20, 25]


def test_an_asker_beyond_the_head_is_told_the_head() -> None:
    catalog, known = trap()
    page = catalog.page(1_000, EMPTY, 10, 10_000)
    assert (page.begin, page.end, page.records, page.known) == (2, 2, (), known)


def tally_of(states: list[ObjectState], wanted: CNSet, stored_ms: dict[Uid, int]) -> Tally:
    hit = [state.record for state in states if any(cn in wanted for cn in state.record.cns())]
    whole = [held for held in hit if held.content is not None and held.content.cn in wanted]
    return Tally(
        len(hit),
        sum(held.content.size for held in whole if held.live and held.content is not None),
        sum(held.live for held in whole),
        min((stored_ms[held.uid] for held in hit), default=None),
    )


@settings(max_examples=200, deadline=None)
@given(steps, cnsets, st.sampled_from([0, 1, 64]), st.integers(1, 30))
def test_tallies_and_lookups_by_cn_are_those_of_a_reading_of_every_object(
    commits: list[list[Step]], wanted: CNSet, ranges_max: int, limit: int
) -> None:
    catalog, uids = catalog_of(commits)
    states = states_of(catalog, uids)
    stored = dict(catalog._db.execute("SELECT uid, stored_ms FROM object").fetchall())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pages, "RANGES_MAX", ranges_max)
        wanted = wanted.intersect(catalog.known)
        assert catalog.tally(wanted) == tally_of(states, wanted, stored)
        hit = [state.record for state in states if any(cn in wanted for cn in state.record.cns())]
        assert list(catalog.with_cns(wanted, 1_000)) == hit
        some = catalog.with_cns(wanted, limit)
        assert len(some) == min(limit, len(hit))
        assert all(held in hit for held in some)


def not_installed_of(states: list[ObjectState]) -> CNSet:
    cns = []
    for state in states:
        if state.pending:
            place_here = state.node is not None and not state.base_place_raw
            content_here = state.node is not None and not state.base_content_raw
            cns += [state.record.place.cn] if state.record.place is not None and not place_here else []
            cns += [state.record.content.cn] if state.record.content is not None and not content_here else []
    return CNSet.of(cns)


@settings(max_examples=100, deadline=None)
@given(steps, st.sampled_from([0, 5, 100_000]))
def test_what_is_not_installed_is_kept_up_from_commit_to_commit(commits: list[list[Step]], notes_max: int) -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    uids: list[Uid] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(missing, "NOTES_MAX", notes_max)
        for now_ms, commit in enumerate(commits):
            draft = Draft(catalog)
            run(draft, uids, commit)
            catalog.commit(draft, now_ms=now_ms)
            if now_ms % 3 != 1:  # several commits' notes at once, too
                assert catalog.not_installed() == not_installed_of(states_of(catalog, uids))
        states = states_of(catalog, uids)
        assert catalog.reader().not_installed() == catalog.not_installed() == not_installed_of(states)


def test_what_has_waited_longest_counts_whatever_the_clock_did() -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    uids = []
    for now_ms in (5_000, 4_000):
        draft = Draft(catalog)
        held = created(draft.allocate(), parent=ROOT, size=7)
        draft.put(ObjectState(held, pending=True))
        catalog.commit(draft, now_ms=now_ms)
        uids.append(held.uid)
    assert catalog.pending_tally() == (2, 14, 5_000)
    assert catalog.pending(10) == uids
    draft = Draft(catalog)
    draft.update(uids[0], pending=False)
    catalog.commit(draft, now_ms=9_000)
    assert catalog.pending_tally() == (1, 7, 4_000)
