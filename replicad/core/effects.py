"""What goes into and comes out of a replica at work (`engine.folder`, `engine.hierarchy`).

A replica is synchronous and is called by one thread: `handle(event, now_ms) -> effects`. The daemon's driver and the
simulator's deliver the same events and carry out the same effects. Effects are carried out in their order, after the
transaction that caused them has committed: nothing is told to anyone before it is durable.
"""

from __future__ import annotations

import msgspec

from replicad.core.ids import MemberId, Uid
from replicad.core.messages import Message

# -- events


class LinkUp(msgspec.Struct, frozen=True):
    """A link to `peer` exists and its hello is done."""

    peer: MemberId


class LinkDown(msgspec.Struct, frozen=True):
    peer: MemberId


class Received(msgspec.Struct, frozen=True):
    """A decoded and validated message; from one peer they come in the order in which that peer sent them."""

    peer: MemberId
    message: Message


class FetchedItem(msgspec.Struct, frozen=True):
    """One content: staged whole and verified under `staged` (its name in staging), or not, with the reason."""

    uid: Uid
    digest: bytes
    staged: bytes
    reason: str = ""
    manifest: bytes = b""
    """Of a large file: its manifest (`manifest.encode_whole`), kept for serving it on and for its next version."""
    gone: bool = False
    """The source no longer has it: not its fault; it will tell of the newer version."""


class Fetched(msgspec.Struct, frozen=True):
    """The end of a `Fetch`: every item of it, the staged ones durable (data synced)."""

    ticket: int
    items: tuple[FetchedItem, ...]


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; sent at `next_due_ms` at the latest."""


Event = LinkUp | LinkDown | Received | Fetched | Tick
"""Of every replica; a folder's has some more (`engine.folder_events.FolderEvent`)."""

# -- effects


class Send(msgspec.Struct, frozen=True):
    """Send on the link to `peer`; dropped without a word when there is none (the exchange is state-based)."""

    peer: MemberId
    message: Message


class WantedContent(msgspec.Struct, frozen=True):
    """`local`: (path, digest) of files here that may share chunks with it."""

    uid: Uid
    digest: bytes
    size: int
    staged: bytes
    local: tuple[tuple[bytes, bytes], ...] = ()


class Fetch(msgspec.Struct, frozen=True):
    """Bring these contents from `peer` into staging; answered by one `Fetched` with the same ticket, always.

    `peer` may be `fetching.HERE`: they are among this member's own preserved files.
    """

    ticket: int
    peer: MemberId
    items: tuple[WantedContent, ...]


class HashFile(msgspec.Struct, frozen=True):
    """Hash a large file outside the replica's thread; answered by `engine.folder_events.FileHashed`."""

    directory: bytes
    name: bytes


class WhoHolds(msgspec.Struct, frozen=True):
    """Look who has this file open for writing; answered by one `engine.folder.FileHeld`, always."""

    path: bytes


class Report(msgspec.Struct, frozen=True):
    """An event for operators: a number of the documents where there is one (4012, 4302, …), else 0, and one line."""

    code: int
    text: str
    path: bytes = b""


class Changed(msgspec.Struct, frozen=True):
    """Something that the status shows has changed (the hierarchy: members, addresses or folders)."""


class FoundingOver(msgspec.Struct, frozen=True):
    """The folder's founding is to end now (rule 6: before a tombstone is dropped)."""


class Returned(msgspec.Struct, frozen=True):
    """This member has lapsed, and this folder of it has caught up: it is to be written living again, if all have."""


Effect = Send | Fetch | HashFile | WhoHolds | Report | Changed | FoundingOver | Returned
