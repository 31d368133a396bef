"""The digest: a 128-bit sum over the registers of what is not gone, which proves at every status that a group is one.

Equal CNSets and purged sets with unequal digests prove a fault: a CN used twice, a record lost, a bug of ours (DESIGN
section 4). A sum, so it is kept up in constant time with each change, whatever their order. XXH3-128 is enough: it is
held against accidents; a hostile member has simpler ways to lie about its own state.

Tombstones are not in it: members drop them at different times (docs/safety.md).
"""

from __future__ import annotations

from xxhash import xxh3_128_intdigest

from replicad.core.records import Record


def register_sum(held: Record) -> int:
    """What this record adds to the sum: a term for each register it has, none if it is gone. To be taken modulo
    2**128."""
    if held.content is not None and held.content.gone is not None:
        return 0
    total = 0
    if held.place_raw:
        total += xxh3_128_intdigest(held.uid + bytes((1, held.kind)) + held.place_raw)
    if held.content_raw:
        total += xxh3_128_intdigest(held.uid + bytes((2, held.kind)) + held.content_raw)
    return total
