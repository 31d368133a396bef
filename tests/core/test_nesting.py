"""How deeply a msgpack value is nested, against a recursive count."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicad.core.nesting import depth_at_most

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20))
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 99), inner, max_size=4)
)


def depth(value: object) -> int:
    """Containers that have something in them; an empty one leads no deeper."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return 1 + max(map(depth, inner)) if isinstance(inner, list) and inner else 0


@given(values)
def test_the_depth_found_is_that_of_the_value(value: object) -> None:
    raw = msgspec.msgpack.encode(value)
    found = depth(value)
    assert depth_at_most(raw, found)
    assert found == 0 or not depth_at_most(raw, found - 1)


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000])
def test_every_width_of_a_length_is_read(size: int) -> None:
    for value in (
        [0] * size,
        b"x" * size,
        "x" * size,
        msgspec.msgpack.Ext(5, b"x" * size),
        dict.fromkeys(range(size), 1),
    ):
        assert depth_at_most(msgspec.msgpack.encode([value, [[]]]), 2)
        assert not depth_at_most(msgspec.msgpack.encode([value, [[1]]]), 2)


def test_numbers_and_extensions_of_every_fixed_width_are_read() -> None:
    heads = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
    heads |= {
        0xD4: 2,
        0xD5: 3,
        0xD6: 5,
        0xD7: 9,
        0xD8: 17,
        0xC0: 0,
        0xC2: 0,
        0xC3: 0,
        0x00: 0,
        0x7F: 0,
        0xE0: 0,
        0xFF: 0,
    }
    for head, width in heads.items():
        raw = b"\x92" + bytes([head]) + b"\x91" * width + b"\x91\x01"
        assert depth_at_most(raw, 2)
        assert not depth_at_most(raw, 1)


def test_a_depth_that_no_stack_could_hold_is_walked() -> None:
    assert not depth_at_most(b"\x91" * 10**6 + b"\x01", 16)
    assert depth_at_most(b"\x91" * 10**5 + b"\x01", 10**5)
