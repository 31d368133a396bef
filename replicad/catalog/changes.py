"""The bookkeeping that a commit may carry beside a draft, as values, and what is read back of it.

`Catalog.commit` applies changes in the order given, after the draft, in the same transaction. `*_id` are numbers from
`Catalog.new_id`, so the caller knows them before anything is stored.
"""

from __future__ import annotations

import msgspec

from replicad.core.ids import MemberId, ReplicaId, Uid

CONFLICT_AND_DELETED, PRE_EXISTING = "ConflictAndDeleted", "PreExisting"
"""Stores of preserved files."""
OWN_META_PREFIX = "catalog."
"""Keys of `meta` that only the catalog itself writes."""
SIBLINGS_META = "tree.siblings"
"""There: losers of a name stand beside the winner. Changes with the tree, in one commit (core.tree.change_policy)."""


class Value(msgspec.Struct, frozen=True, gc=False):
    """Base of the values here."""


# -- what is stored


class Series(Value, frozen=True, gc=False):
    """How far this member has read the catalog `replica` of a peer: `position` is w, `head` the highest head taken."""

    member: MemberId
    replica: ReplicaId
    position: int
    head: int


class Peer(Value, frozen=True, gc=False):
    """What is kept of a member met (core.runs; 0 and b"": none). `life`: that of its catalog; `session`,
    `session_mark`: the run of its catalog that it has shown, knowing that it was taken note of; `next_*`: the last one
    that was taken note of; `told_*`: the run of this catalog of which it has taken note. `status`: its last one, b"" if
    none was heard.
    """

    member: MemberId
    status: bytes = b""
    session: int = 0
    session_mark: bytes = b""
    next_session: int = 0
    next_session_mark: bytes = b""
    last_seen_ms: int | None = None
    told_session: int = 0
    told_mark: bytes = b""
    life: int = 0


class Intent(Value, frozen=True, gc=False):
    """What is about to be done to the tree (rule 8)."""

    intent_id: int
    blob: bytes


class Preserved(Value, frozen=True, gc=False):
    """A file kept for an operator. `uid` is None for what was no object; `replica` wrote the version, `winner` what
    took it off the disk; None: unknown. `digest` is empty until it is known (engine.digesting)."""

    preserved_id: int
    store: str
    path: bytes
    kind: int
    size: int
    digest: bytes
    uid: Uid | None
    replica: ReplicaId | None
    when_ms: int
    why: str
    stored_name: bytes
    winner: ReplicaId | None = None


class Out(Value, frozen=True, gc=False):
    """What was lifted out of the tree, and lies in staging until quiet (I3)."""

    out_id: int
    staging_name: bytes
    blob: bytes
    due_ms: int


class Manifest(Value, frozen=True, gc=False):
    """`digest` and `size` are of the file."""

    digest: bytes
    blob: bytes
    size: int


class Invitation(Value, frozen=True, gc=False):
    token_id: bytes
    blob: bytes
    uses_left: int
    expires_ms: int


# -- changes


class SetSeries(Value, frozen=True, gc=False):
    series: Series


class SetPeer(Value, frozen=True, gc=False):
    """Whole; take `Catalog.peer` and replace what changes."""

    peer: Peer


class AddIntents(Value, frozen=True, gc=False):
    intents: tuple[Intent, ...]


class ClearIntents(Value, frozen=True, gc=False):
    intent_ids: tuple[int, ...]


class AddPreserved(Value, frozen=True, gc=False):
    preserved: Preserved


class SetPreservedDigest(Value, frozen=True, gc=False):
    """Of a file whose content was not known when it was preserved. Nothing where it is not listed any more."""

    preserved_id: int
    digest: bytes


class RemovePreserved(Value, frozen=True, gc=False):
    preserved_ids: tuple[int, ...]


class AddOut(Value, frozen=True, gc=False):
    out: Out


class RemoveOut(Value, frozen=True, gc=False):
    out_ids: tuple[int, ...]


class PutManifest(Value, frozen=True, gc=False):
    """One that is there already stays: the digest names it."""

    manifest: Manifest


class RemoveManifests(Value, frozen=True, gc=False):
    digests: tuple[bytes, ...]


class SetMeta(Value, frozen=True, gc=False):
    """`value` None removes the key. Keys under OWN_META_PREFIX are refused."""

    key: str
    value: bytes | None


class SetReplicaOwner(Value, frozen=True, gc=False):
    replica: ReplicaId
    member: MemberId


class RenewReplica(Value, frozen=True, gc=False):
    """From the next commit on, changes are made under `replica`, which must never have been seen; its counter is 0."""

    replica: ReplicaId


class SetDigest(Value, frozen=True, gc=False):
    """The rows were counted, and add up to this: the sum that was kept was wrong."""

    digest: int


class PutInvitation(Value, frozen=True, gc=False):
    invitation: Invitation


class TakeInvitation(Value, frozen=True, gc=False):
    """One use of an invitation that is there and has not expired by the commit's `now_ms`; the last one removes it.

    The caller has looked (`Catalog.invitation`) in the same step; otherwise it is a bug, and an assertion.
    """

    token_id: bytes


class RemoveInvitation(Value, frozen=True, gc=False):
    token_id: bytes


Change = (
    SetSeries
    | SetPeer
    | AddIntents
    | ClearIntents
    | AddPreserved
    | SetPreservedDigest
    | RemovePreserved
    | AddOut
    | RemoveOut
    | PutManifest
    | RemoveManifests
    | SetMeta
    | SetReplicaOwner
    | RenewReplica
    | SetDigest
    | PutInvitation
    | TakeInvitation
    | RemoveInvitation
)
