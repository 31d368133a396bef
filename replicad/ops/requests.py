"""What an operator may ask for, as values: each operation's request, and where the API offers it.

The CLI sends these to the daemon, or hands them to the same operation while no daemon runs; the API reads them from
HTTP. So there is one form and one check of it. Fields that stand in an operation's path come from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)]

WAIT_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 300.0


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all."""


class Init(Request, frozen=True):
    name: str
    group: str = "replicad"
    listen: str | None = None
    advertise: tuple[str, ...] = ()
    api: str | None = None


class Join(Request, frozen=True):
    token: str
    name: str
    listen: str | None = None
    advertise: tuple[str, ...] = ()
    api: str | None = None


class Invite(Request, frozen=True):
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=365 * 86_400)] = 3_600
    uses: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1


class InviteList(Request, frozen=True):
    pass


class InviteRevoke(Request, frozen=True):
    id: str


class MemberList(Request, frozen=True):
    pass


class MemberRemove(Request, frozen=True):
    """`name`: the member's name, or the first characters of its id."""

    name: str


class MemberLapse(Request, frozen=True):
    """`force`: although it was seen lately."""

    name: str
    force: bool = False


class FolderCreate(Request, frozen=True):
    name: str
    path: str


class FolderJoin(Request, frozen=True):
    name: str
    path: str
    merge: bool = False


class FolderList(Request, frozen=True):
    pass


class FolderSet(Request, frozen=True):
    """`settings`: texts as `folder set` takes them, `default` for one that is to be taken back."""

    name: str
    settings: dict[str, str]


class FolderLeave(Request, frozen=True):
    """`now`: do not wait until what only this member has is on others."""

    name: str
    now: bool = False
    timeout_s: Seconds = DRAIN_TIMEOUT_S


class FolderRemove(Request, frozen=True):
    """`now`: do not wait until every member in reach has everything."""

    name: str
    now: bool = False
    timeout_s: Seconds = DRAIN_TIMEOUT_S


class Verify(Request, frozen=True):
    """`remedy`: what is done where content differs though times are the same: nothing (`report`), what is on the disk
    becomes an edit (`take`), or what the group has is fetched again and what is there is preserved (`mend`)."""

    name: str
    remedy: Literal["report", "take", "mend"] = "report"


class FolderMove(Request, frozen=True):
    """The folder's directory has been moved on this member: it is at `path` now."""

    name: str
    path: str


class HoldList(Request, frozen=True):
    pass


class HoldDecide(Request, frozen=True):
    """`name`: the folder that is held."""

    name: str
    decision: Literal["approve", "reject"]


class Rejoin(Request, frozen=True):
    """`primary`: what is on this member's disk counts. `force`: although most of the folder is not there."""

    name: str
    primary: bool = False
    force: bool = False


class Abandon(Request, frozen=True):
    """`path`: absolute, on this member; `path_bytes` (base64) where it is not UTF-8.

    `force`: although a member has told that it has it.
    """

    path: str = ""
    path_bytes: str = ""
    force: bool = False


class Wait(Request, frozen=True):
    """`folder` None: all that are kept here. `members` counts this one; None: all of the folder's."""

    folder: str | None = None
    members: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    timeout_s: Seconds = WAIT_TIMEOUT_S


class PreservedList(Request, frozen=True):
    """`folder` None: all that are kept here."""

    folder: str | None = None


class PreservedRestore(Request, frozen=True):
    """`id` as the list gives it; `to`: a path in the folder, None for where it was."""

    id: str
    to: str | None = None


class PreservedDelete(Request, frozen=True):
    """`ids` of files that this member keeps."""

    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1_000)]


class PreservedEmpty(Request, frozen=True):
    """What this member keeps in a store. `older_than_s`: only what was preserved so long ago or longer."""

    folder: str
    store: Literal["ConflictAndDeleted", "PreExisting"]
    older_than_s: Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * 86_400)] = 0


OfPreserved = PreservedList | PreservedRestore | PreservedDelete | PreservedEmpty


@dataclass(frozen=True, slots=True)
class Route:
    """`daemon`: it needs a running daemon. `asks`: it changes nothing, whatever its method. `streams`: the answer comes
    piece by piece, as server-sent events. `beside`: it may take long, and touches nothing that another operation looks
    at and then writes: the others do not wait for it."""

    method: str
    path: str
    request: type[Request]
    summary: str
    daemon: bool = False
    asks: bool = False
    streams: bool = False
    beside: bool = False

    @property
    def changes(self) -> bool:
        return self.method != "GET" and not self.asks

    def fields_in_path(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/init", Init, "Found a group."),
    Route("POST", "/v1/join", Join, "Join a group with a token."),
    Route("GET", "/v1/invitations", InviteList, "The join tokens that this member has made."),
    Route("POST", "/v1/invitations", Invite, "Make a join token."),
    Route("DELETE", "/v1/invitations/{id}", InviteRevoke, "Revoke a join token."),
    Route("GET", "/v1/members", MemberList, "The members of the group."),
    Route("DELETE", "/v1/members/{name}", MemberRemove, "Remove a member from the group, for good."),
    Route("POST", "/v1/members/{name}/lapse", MemberLapse, "Wait for a member no more, until it is back."),
    Route("GET", "/v1/folders", FolderList, "The folders of the group."),
    Route("POST", "/v1/folders", FolderCreate, "Make a new folder of the group, kept here."),
    Route("POST", "/v1/folders/{name}/join", FolderJoin, "Keep an existing folder of the group here."),
    Route("POST", "/v1/folders/{name}/settings", FolderSet, "Change how this member keeps a folder."),
    Route("POST", "/v1/folders/{name}/leave", FolderLeave, "Stop keeping a folder here."),
    Route(
        "POST",
        "/v1/folders/{name}/verify",
        Verify,
        "Read this member's disk again; closing the connection ends it. Server-sent events: progress, difference…, "
        "and result or error at the end.",
        daemon=True,
        streams=True,
    ),
    Route("DELETE", "/v1/folders/{name}", FolderRemove, "Take a folder out of the group."),
    Route("POST", "/v1/folders/{name}/move", FolderMove, "Say where a folder's directory is now, on this member."),
    Route("GET", "/v1/holds", HoldList, "Folders that wait for an operator's decision.", daemon=True),
    Route("POST", "/v1/folders/{name}/hold", HoldDecide, "Approve or reject what a held folder shows.", daemon=True),
    Route("POST", "/v1/folders/{name}/rejoin", Rejoin, "Begin a folder anew on this member.", daemon=True),
    Route("POST", "/v1/abandon", Abandon, "Give up versions that nobody has any more.", daemon=True),
    Route("POST", "/v1/wait", Wait, "Wait until what is on the disks now is on all of them.", daemon=True, asks=True),
    Route("GET", "/v1/preserved", PreservedList, "What is preserved, on all members in reach.", daemon=True),
    Route("POST", "/v1/preserved/delete", PreservedDelete, "Delete preserved files of this member.", daemon=True),
    Route("POST", "/v1/preserved/empty", PreservedEmpty, "Empty a store of this member.", daemon=True, beside=True),
    Route(
        "POST", "/v1/preserved/{id}/restore", PreservedRestore, "Bring a preserved file back.", daemon=True, beside=True
    ),
)


def route_of(request: Request) -> Route:
    return next(route for route in ROUTES if route.request is type(request))


def as_json(request: Request) -> dict[str, Any]:
    """Plain values, as the API takes them."""
    plain: dict[str, Any] = msgspec.to_builtins(request)
    return plain
