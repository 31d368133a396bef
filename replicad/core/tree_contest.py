"""Who has a name that several objects want: pure functions of their records (DESIGN section 3, the tree)."""

from __future__ import annotations

from collections.abc import Sequence

from replicad.core.ids import Uid
from replicad.core.records import DIRECTORY, FILE, Content, Record, Stamp, content_key


def best_of(found: Sequence[Record]) -> tuple[Record, list[Record]]:
    """(the lead, the winners) of those that want one name, of which there is at least one; the order is kept.

    Directories beat all else, and all of them are one. Of files and symlinks the best wins (`_strength`), together with
    those of equal kind and content.
    """
    directories = [held for held in found if held.kind == DIRECTORY]
    if directories:
        live = [held for held in directories if held.live]
        lead = max(live, key=lambda held: (content_key(held), held.uid)) if live else directories[0]
        return lead, directories
    lead = max(found, key=_strength)
    return lead, [held for held in found if held.kind == lead.kind and essence(held) == essence(lead)]


def essence(held: Record) -> bytes:
    """That in which two files or two symlinks must be equal to be one."""
    return _content(held).digest if held.kind == FILE else _content(held).value


def _strength(held: Record) -> tuple[bool, Stamp | int, bytes, Uid]:
    """The order of files and symlinks that want one name; the UID is the last resort.

    An object both of whose registers are still originals loses to any other (rule 6), so the two forms of the second
    element never meet.
    """
    content = _content(held)
    if held.original:
        return False, content.mtime_ns, essence(held), held.uid
    assert held.place is not None
    return True, max(held.place.stamp, content.stamp), b"", held.uid


def _content(held: Record) -> Content:
    assert held.content is not None, "only usable objects are present"
    return held.content
