"""How deeply a msgpack value is nested: what msgspec leaves to the interpreter's stack.

Fields that this version does not know are skipped by msgspec recursively, so how deep a value may be would depend on
how deep the stack happens to be: one member would take a record and another refuse it. This walk takes no stack.
"""

from __future__ import annotations

_HEADERS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the length of strings, binaries and extensions."""
_FIXED = {0xCA: 4, 0xCB: 8, **{0xCC + n: 1 << n for n in range(4)}, **{0xD0 + n: 1 << n for n in range(4)}}
_FIXED_EXTENSIONS = {0xD4 + n: 1 + (1 << n) for n in range(5)}
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count of arrays and maps, and values for each one counted."""


def depth_at_most(raw: bytes, depth_max: int) -> bool:
    """Whether no container in `raw`, one msgpack value that a decoder has accepted, is deeper than `depth_max`."""
    at = 0
    left = [1]
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        size, values = _item(raw, at)
        at += size
        if values:
            if len(left) > depth_max:
                return False
            left.append(values)
    return True


def _item(raw: bytes, at: int) -> tuple[int, int]:
    """(bytes up to the next item, values within this one)."""
    head = raw[at]
    if head in _CONTAINERS:
        width, each = _CONTAINERS[head]
        return 1 + width, each * int.from_bytes(raw[at + 1 : at + 1 + width], "big")
    if head in _HEADERS:
        width = _HEADERS[head]
        extension = 0xC7 <= head <= 0xC9
        return 1 + width + extension + int.from_bytes(raw[at + 1 : at + 1 + width], "big"), 0
    if 0x80 <= head <= 0x8F:
        return 1, 2 * (head & 0x0F)
    if 0x90 <= head <= 0x9F:
        return 1, head & 0x0F
    if 0xA0 <= head <= 0xBF:
        return 1 + (head & 0x1F), 0
    return 1 + _FIXED.get(head, _FIXED_EXTENSIONS.get(head, 0)), 0
