"""Taking in records that come from others: merge, recompute the tree, mark what the disk now lacks.

What was installed stays the base of what this member will originate next (rule 1): a register that the incoming one
replaces is kept as the base for as long as it is what the disk shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicad.core.draft import Draft
from replicad.core.ids import Uid
from replicad.core.records import Record, merge
from replicad.core.tree import retree
from replicad.core.view import ObjectState
from replicad.core.want import settle


def absorb(draft: Draft, records: Sequence[Record]) -> None:
    """Merge `records` into the draft, in any order and however often; keeps the tree and `pending` in step.

    The CNs of the records are the caller's to add: it knows by which rule (core.series).
    """
    before: dict[Uid, ObjectState | None] = {}
    if len(records) > 1:
        parents = {record.place.parent for record in records if record.place is not None}
        draft.objects({record.uid for record in records} | parents)  # in one go, for those who ask for them below
    for incoming in records:
        held = draft.object(incoming.uid)
        merged = merge(held.record if held is not None else None, incoming)
        if held is not None and merged.record is held.record:
            continue
        before.setdefault(incoming.uid, held)
        draft.put(_with_record(held, merged.record))
    slots = retree(draft, before.items())
    settle(draft, slots, before)


def _with_record(held: ObjectState | None, record: Record) -> ObjectState:
    if held is None:
        return ObjectState(record)
    place_raw, content_raw = held.base_place_raw, held.base_content_raw
    if held.node is not None:
        place_raw = place_raw or (held.record.place_raw if record.place_raw != held.record.place_raw else b"")
        content_raw = content_raw or (held.record.content_raw if record.content_raw != held.record.content_raw else b"")
        # The group may come round to what is installed: then the record is the base again.
        place_raw = b"" if place_raw == record.place_raw else place_raw
        content_raw = b"" if content_raw == record.content_raw else content_raw
    return msgspec.structs.replace(
        held, record=record, base_place_raw=place_raw, base_content_raw=content_raw, position=0
    )
