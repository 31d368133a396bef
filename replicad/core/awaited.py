"""Which objects a member waits for when it is asked whether certain changes are installed, and when each of them is.

Asked is about a set T of CNs, all of them known by now. An object counts when it is pending and one of its registers
that are not installed yet has a CN in T; or when nothing but the tree makes it pending. That is not enough: a CN is
also *known* when its register was superseded before it got here. Then no record here has it, and the one that took its
place may be pending under a CN that is not in T. Nothing in that record tells which others it beat (its version vector
has only those that its author had seen). So where T holds a CN that belongs to no record here, and that was not
installed before, every object counts that is pending in that moment (`unaccounted`).

An object that counted is done when the disk shows it as the tree wants it, or showed a version at least as high as the
one it had then: what comes later is not waited for.
"""

from __future__ import annotations

import msgspec

from replicad.core.cnset import CNSet
from replicad.core.records import Content, Stamp, open_content, open_place
from replicad.core.view import ObjectState


class Awaited(msgspec.Struct, frozen=True, gc=False):
    """What an object must come to: its registers as they were. With `whole` the disk must be as the tree wants it: they
    were installed before, and tell nothing."""

    place: bytes
    content: bytes
    whole: bool


def concerns(state: ObjectState, wanted: CNSet) -> bool:
    """Whether a pending object is pending by a CN in `wanted`, or by the tree alone."""
    place, content = _pending_registers(state)
    if not place and not content:
        return True
    held = state.record
    return (place and held.place is not None and held.place.cn in wanted) or (
        content and held.content is not None and held.content.cn in wanted
    )


def awaited(state: ObjectState) -> Awaited:
    """Of a pending object, as it is now."""
    place, content = _pending_registers(state)
    held = state.record
    kept = state.node is None and held.content is not None and held.content.gone is not None
    return Awaited(held.place_raw, held.content_raw, whole=kept or not (place or content))


def is_done(state: ObjectState | None, what: Awaited) -> bool:
    """Whether an object that counted as `what` is installed at that version or a later one."""
    if state is None or not state.pending:
        return True
    if what.whole:
        return False
    content = open_content(what.content) if what.content else None
    if state.node is None:
        # It was on the disk: a pending object that is gone and has no entry is a kept directory, and counts as a whole.
        return content is not None and content.gone is not None
    return _place_reached(state, what.place) and _content_reached(state, content, what.content)


def unaccounted(wanted: CNSet, installed: CNSet, held: CNSet) -> bool:
    """Whether `wanted` has a CN that no record here has (`held`: those that one has) and that was not `installed`."""
    return bool(wanted.minus(installed).minus(held))


def _pending_registers(state: ObjectState) -> tuple[bool, bool]:
    """Of (place, content): whether the register is not what is installed."""
    if state.node is None:
        return True, True
    return bool(state.base_place_raw), bool(state.base_content_raw)


def _place_reached(state: ObjectState, then_raw: bytes) -> bool:
    if not then_raw or (state.base_place_raw or state.record.place_raw) == then_raw:
        return True
    base = state.base_place
    return base is not None and base.stamp > open_place(then_raw).stamp


def _content_reached(state: ObjectState, then: Content | None, then_raw: bytes) -> bool:
    """A base with the same stamp and other bytes is an adopted one, whose mode or mtime is still to be set."""
    if then is None or (state.base_content_raw or state.record.content_raw) == then_raw:
        return True
    base = state.base_content
    return base is not None and _order(base) > _order(then)


def _order(content: Content) -> tuple[Stamp, bool, Stamp]:
    return content.rank, content.gone is not None, content.stamp
