"""The catalog answers every lookup of `core.view.View` as the view in memory does, whatever was committed."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given, settings

from replicad.catalog import remembered
from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.ids import ROOT, Uid
from replicad.core.memory_view import MemoryView
from replicad.core.view import ROOT_NODE, View
from tests.catalog.making import FOLDER, INODES, NAMES, OWN, Step, run, steps


def lookups(view: View, uids: list[Uid]) -> dict[str, object]:
    """Every lookup there is, of everything there is."""
    nodes = range(1, view.next_node + 2)
    parents = [ROOT, *uids]
    return {
        "values": (view.folder, view.replica, view.counter, view.known, view.digest, view.head, view.next_node),
        "object": [view.object(uid) for uid in uids],
        "objects": list(view.objects([*reversed(uids), b"not there yet..."])),
        "named": [list(view.named(parent, name)) for parent in parents for name in NAMES],
        "children": [list(view.children(parent)) for parent in parents],
        "present_named": [list(view.present_named(parent, name)) for parent in parents for name in NAMES],
        "present_children": [list(view.present_children(parent)) for parent in parents],
        "first_present_children": [list(view.present_children(parent, 2)) for parent in parents],
        "cuts": list(view.cuts()),
        "cut_named": [list(view.cut_named(parent, name)) for parent in parents for name in NAMES],
        "cut_into": [list(view.cut_into(parent)) for parent in parents],
        "group_members": [list(view.group_members(uid)) for uid in uids],
        "pending": list(view.pending(1_000)),
        "first_pending": list(view.pending(2)),
        "node": [view.node(node) for node in nodes],
        "node_at": [view.node_at(node, name) for node in nodes for name in NAMES],
        "nodes_in": [list(view.nodes_in(node)) for node in nodes],
        "first_nodes_in": [list(view.nodes_in(node, 2)) for node in nodes],
        "node_by_inode": [list(view.node_by_inode(inode)) for inode in INODES],
        "uids_at": [list(view.uids_at(node)) for node in nodes],
        "hidden_at": [list(view.hidden_at(node)) for node in nodes],
        "root": view.uids_at(ROOT_NODE),
    }


@settings(max_examples=150, deadline=None)
@given(steps)
def test_every_lookup_is_as_in_memory(commits: list[list[Step]]) -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    memory = MemoryView(FOLDER, OWN)
    uids: list[Uid] = []
    for now_ms, commit in enumerate(commits):
        mirrored = list(uids)
        draft, mirror = Draft(catalog), Draft(memory)
        run(draft, uids, commit)
        run(mirror, mirrored, commit)
        assert uids == mirrored
        assert lookups(draft, uids) == lookups(mirror, uids), "the drafts differ"
        head = catalog.commit(draft, now_ms=now_ms // 2)  # so some commits share a millisecond
        memory.apply(mirror)
        assert head == memory.head
        found, expected = lookups(catalog, uids), lookups(memory, uids)
        for what, answer in found.items():
            assert answer == expected[what], what
    with catalog.reader() as reader:
        assert lookups(reader, uids) == lookups(catalog, uids)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_what_was_looked_up_before_a_commit_is_right_after_it(commits: list[list[Step]]) -> None:
    """And so it is where there is room for few answers, and where many were asked for at once."""
    with patch.multiple(remembered, KEPT_MAX=6, KEPT_LEFT=4, AHEAD_MIN=1):
        catalog = Catalog.open(None, FOLDER, lambda: OWN)
        uids: list[Uid] = []
        for now_ms, commit in enumerate(commits):
            draft = Draft(catalog)
            run(draft, uids, commit)
            catalog.commit(draft, now_ms=now_ms)
            catalog.look_ahead(
                names=[(parent, name) for parent in (ROOT, *uids[:1]) for name in NAMES],
                entries=[(parent, name) for parent in (ROOT_NODE, 16) for name in NAMES],
                nodes=range(1, catalog.next_node + 1),
                inodes=INODES,
            )
            with catalog.reader() as reader:
                found, expected = lookups(catalog, uids), lookups(reader, uids)
                found["times"] = (catalog.first_tombstone_ms(), catalog.longest_pending_ms())
                expected["times"] = (reader.first_tombstone_ms(), reader.longest_pending_ms())
            for what, answer in found.items():
                assert answer == expected[what], what


@settings(max_examples=100, deadline=None)
@given(steps)
def test_sums_and_counts_are_those_of_the_rows_after_every_commit(commits: list[list[Step]]) -> None:
    catalog = Catalog.open(None, FOLDER, lambda: OWN)
    uids: list[Uid] = []
    for commit in commits:
        draft = Draft(catalog)
        run(draft, uids, commit)
        catalog.commit(draft, now_ms=1)
        # The random operations do leave objects at entries that are gone; nothing else may be found.
        assert [line for line in catalog.faults() if "entry of the disk" not in line] == []
