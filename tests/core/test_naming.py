"""Ids that follow from names are the same for all who name alike, and differ in everything else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core.naming import folder_id, group_id_from_founder, group_id_from_secret, join_key_from_secret

FOUNDER = "ab" * 32
OTHER_FOUNDER = "cd" * 32


def test_ids_are_what_they_were_when_groups_were_founded_with_them() -> None:
    """A change here would split every group that exists."""
    group = group_id_from_secret(b"correct horse", "demo")
    assert group.hex() == "c57563ad95fce66fd2b2c498a8759d27"
    assert group_id_from_founder(FOUNDER, "demo").hex() == "3e5e035f9a5284d0bdee16b2bb4c7194"
    assert folder_id(group, "docs").hex() == "c1cd2db0679ac91bc982b1e95d044d5a"


def test_a_group_differs_by_its_secret_and_by_its_name() -> None:
    ids = {group_id_from_secret(secret, name) for secret in (b"one", b"two") for name in ("demo", "Demo")}
    assert len(ids) == 4
    assert {len(group) for group in ids} == {16}


def test_the_join_key_tells_nothing_of_the_groups_id() -> None:
    assert join_key_from_secret(b"one", "demo")[:16] != group_id_from_secret(b"one", "demo")
    assert len(join_key_from_secret(b"one", "demo")) == 32


def test_founders_of_groups_of_one_name_have_different_groups() -> None:
    assert group_id_from_founder(FOUNDER, "demo") != group_id_from_founder(OTHER_FOUNDER, "demo")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.text(max_size=20)), min_size=2, max_size=8))
def test_folder_ids_are_equal_exactly_where_group_and_name_are(pairs: list[tuple[bytes, str]]) -> None:
    ids = {pair: folder_id(*pair) for pair in pairs}
    assert len(set(ids.values())) == len(set(pairs))
