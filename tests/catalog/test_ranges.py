"""What the registers in a range of UIDs add up to, against a reading of every object."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from replicad.core.digest import register_sum
from replicad.core.draft import DIGEST_MODULUS
from replicad.core.repair import WHOLE
from tests.catalog.making import Step, steps
from tests.catalog.test_pages import catalog_of, states_of

bounds = st.binary(max_size=20) | st.integers(0, 40)
"""Any, or one of the objects there."""


@settings(max_examples=40, deadline=None)
@given(steps, bounds, bounds, st.integers(1, 7))
def test_a_range_is_read_in_portions_and_all_of_it_adds_up_to_the_digest(
    commits: list[list[Step]], first: bytes | int, last: bytes | int, limit: int
) -> None:
    catalog, uids = catalog_of(commits)
    held = sorted((state.record.uid, state.record) for state in states_of(catalog, uids))
    uid_of = {number: held[number % len(held)][0] if held else b"" for number in range(41)}
    after, upto = sorted(one if isinstance(one, bytes) else uid_of[one] for one in (first, last))
    found, at = [], after
    while at != upto:
        rows = catalog.range_sums(at, upto, limit)
        assert rows.rows <= limit
        assert rows.reached > at
        found += rows.sums
        at = rows.reached
    counted = [(uid, one) for uid, one in held if after < uid <= upto and not (one.content and one.content.gone)]
    assert found == [(uid, register_sum(one) % DIGEST_MODULUS) for uid, one in counted]
    whole = catalog.range_sums(*WHOLE, 10_000)
    assert whole.reached == WHOLE.upto
    assert sum(total for _, total in whole.sums) % DIGEST_MODULUS == catalog.digest
