"""What is preserved of a folder, on this member and on the others: list, bring back, delete (docs/preserved.md).

Each member keeps its own files and its own list. Who asks for the whole of it asks the members that it is linked with,
page by page, and puts together what they answer; one that is not linked, does not answer in time or tells too much is
named. A peer may be asked to bring back one of its own: that only adds a file, which any member may. To delete is for
the operator of the member that keeps it: nothing that comes over a link removes a preserved file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from replicad.catalog.changes import PRE_EXISTING
from replicad.catalog.changes import Preserved as Row
from replicad.catalog.store import Catalog
from replicad.core.effects import Effect, LinkDown, Received, Send
from replicad.core.ids import MemberId
from replicad.core.messages import (
    PAGE_BYTES_MAX,
    PRESERVED_PATH_MAX,
    PRESERVED_ROWS_MAX,
    WHY_CHARACTERS_MAX,
    PreservedPage,
    PreservedRequest,
    PreservedRow,
    Restore,
    RestoreReply,
)
from replicad.engine.collecting import Collecting
from replicad.engine.digesting import Digesting
from replicad.engine.folder_events import Surroundings
from replicad.engine.restoring import delete, restore
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError
from replicad.files.fs import FileSystem

ROWS_MAX = 20_000
"""Of one member in one list: 10 MB, and more than anybody reads. The rest is counted as left off."""
LISTED_BYTES_MAX = 32 * 1_048_576
"""Of one member's paths and reasons in one list: rows may have 64 KiB each."""
ANSWER_MS = 10_000
"""In which a member sends the next page, or has brought a file back."""
ASKED_MAX = 64
"""Questions under way; an operator has a few."""


@dataclass
class Listing:
    """What a list came to. `left_off`: members that keep more than ROWS_MAX."""

    rows: dict[MemberId, list[PreservedRow]] = field(default_factory=dict)
    failed: dict[MemberId, str] = field(default_factory=dict)
    left_off: list[MemberId] = field(default_factory=list)


@dataclass
class _Asked:
    """A question under way: which answer each peer owes, and until when."""

    owing: dict[MemberId, tuple[int, int]] = field(default_factory=dict)
    """(correlation, deadline)."""
    listing: Listing = field(default_factory=Listing)
    told_bytes: dict[MemberId, int] = field(default_factory=dict)
    reply: RestoreReply | None = None


class Preserved:
    """Of one folder; on the thread that owns its catalog. `hindrance` says why nothing may be done to the tree now."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        own: MemberId,
        around: Surroundings,
        *,
        hindrance: Callable[[], str],
        brought: Callable[[bytes], None],
    ) -> None:
        """`brought` is told of a path that the scanner should look at."""
        self._catalog = catalog
        self._fs = fs
        self._own = own
        self._may_send = around.may_send
        self._hindrance = hindrance
        self._brought = brought
        self._collecting = Collecting(catalog, fs)
        self._digesting = Digesting(catalog, fs, around.large_bytes)
        self.hashed = self._digesting.hashed
        self.recheck = self._collecting.recheck
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        """Ticket or correlation: of one row of numbers."""

    # -- the operator's side

    def list_group(self, peers: Iterable[MemberId], now_ms: int) -> tuple[int, list[Effect]]:
        """Ask these members, and this one. Returns the ticket."""
        ticket, asked = self._ask()
        rows, more = self._page(0, ROWS_MAX, LISTED_BYTES_MAX)
        asked.listing.rows[self._own] = rows
        if more:
            asked.listing.left_off.append(self._own)
        return ticket, [self._send_request(asked, peer, 0, now_ms) for peer in peers]

    def listing(self, ticket: int, now_ms: int) -> Listing | None:
        """None while somebody's answer is under way. Then `forget` it."""
        asked = self._asked[ticket]
        self._expire(asked, now_ms)
        return None if asked.owing else asked.listing

    def restore_at(self, peer: MemberId, number: int, to: bytes, now_ms: int) -> tuple[int, list[Effect]]:
        """Have a linked member bring back one of its own."""
        ticket, asked = self._ask()
        asked.owing[peer] = (ticket, now_ms + ANSWER_MS)
        return ticket, [Send(peer, Restore(correlation=ticket, number=number, to=to))]

    def restored(self, ticket: int, now_ms: int) -> RestoreReply | None:
        """None while it is under way. Then `forget` it."""
        asked = self._asked[ticket]
        self._expire(asked, now_ms)
        if asked.reply is None and not asked.owing:
            return RestoreReply(correlation=ticket, path=b"", reason=next(iter(asked.listing.failed.values()), ""))
        return asked.reply

    def forget(self, ticket: int) -> None:
        self._asked.pop(ticket, None)

    def restore(self, number: int, to: bytes, now_ms: int) -> bytes:
        """One of this member's own; its path. Raises OperatorError."""
        hindrance = self._hindrance()
        if hindrance:
            raise OperatorError(f"nothing can be brought back now: {hindrance}")
        path = restore(self._catalog, self._fs, number, to, now_ms)
        self._brought(path)
        return path

    def delete(self, numbers: Iterable[int], now_ms: int) -> tuple[int, int]:
        """This member's own, for good; (files, bytes). Raises OperatorError."""
        return delete(self._catalog, self._fs, numbers, now_ms)

    def empty(self, store: str, until_ms: int, limit: int, now_ms: int) -> tuple[int, int, bool]:
        """At most `limit` of a store's files preserved by `until_ms`: (files, bytes, whether there may be more)."""
        numbers: list[int] = []
        after = 0
        while len(numbers) < limit and (rows := self._catalog.preserved_in(store, limit, after)):
            after = rows[-1].preserved_id
            numbers += [row.preserved_id for row in rows if row.when_ms <= until_ms]
        files, size = self.delete(numbers[:limit], now_ms)
        return files, size, files == limit

    # -- the replica's side

    def handle(self, event: Received | LinkDown, now_ms: int) -> list[Effect]:
        match event:
            case LinkDown(peer):
                for asked in self._asked.values():
                    if asked.owing.pop(peer, None) is not None:
                        asked.listing.failed[peer] = "the link to it broke"
            case Received(peer, message) if self._may_send(peer):
                return self._received(peer, message, now_ms)
        return []

    def work(self, settings: FolderSettings, now_ms: int, *, disk: bool) -> list[Effect]:
        """A bounded piece of what is to be done by itself; `disk`: the root is there. Raises CatalogError."""
        for asked in self._asked.values():
            self._expire(asked, now_ms)
        if not disk:
            return []
        return [*self._collecting.work(settings, now_ms), *self._digesting.work(now_ms)]

    def next_due_ms(self, now_ms: int, *, disk: bool) -> int | None:
        due = [deadline for asked in self._asked.values() for _, deadline in asked.owing.values()]
        if disk and self._digesting.due:
            due.append(now_ms)
        if disk and (collecting := self._collecting.next_due_ms(now_ms)) is not None:
            due.append(collecting)
        return min(due, default=None)

    # -- inside

    def _received(self, peer: MemberId, message: object, now_ms: int) -> list[Effect]:
        match message:
            case PreservedRequest(correlation=correlation, after=after):
                rows, more = self._page(after, PRESERVED_ROWS_MAX, PAGE_BYTES_MAX)
                return [Send(peer, PreservedPage(correlation=correlation, rows=rows, more=more))]
            case Restore():
                return [Send(peer, self._restore_for(message, now_ms))]
            case PreservedPage():
                return self._take_page(peer, message, now_ms)
            case RestoreReply():
                for asked in self._asked.values():
                    if asked.owing.get(peer, (0, 0))[0] == message.correlation:
                        del asked.owing[peer]
                        asked.reply = message
        return []

    def _restore_for(self, asked: Restore, now_ms: int) -> RestoreReply:
        try:
            path = self.restore(asked.number, asked.to, now_ms)
        except OperatorError as error:
            return RestoreReply(correlation=asked.correlation, path=b"", reason=str(error))
        return RestoreReply(correlation=asked.correlation, path=path, reason="")

    def _take_page(self, peer: MemberId, page: PreservedPage, now_ms: int) -> list[Effect]:
        for asked in self._asked.values():
            if asked.owing.get(peer, (0, 0))[0] != page.correlation:
                continue
            rows = asked.listing.rows.setdefault(peer, [])
            rows += page.rows
            del asked.owing[peer]
            told = sum(len(row.path) + len(row.why) for row in page.rows)
            asked.told_bytes[peer] = asked.told_bytes.get(peer, 0) + told
            if page.more and (len(rows) >= ROWS_MAX or asked.told_bytes[peer] >= LISTED_BYTES_MAX):
                asked.listing.left_off.append(peer)
            elif page.more:
                return [self._send_request(asked, peer, page.rows[-1].number, now_ms)]
        return []

    def _ask(self) -> tuple[int, _Asked]:
        if len(self._asked) >= ASKED_MAX:
            raise OperatorError("too many questions about preserved files are under way: try again")
        self._last += 1
        self._asked[self._last] = _Asked()
        return self._last, self._asked[self._last]

    def _send_request(self, asked: _Asked, peer: MemberId, after: int, now_ms: int) -> Send:
        self._last += 1
        asked.owing[peer] = (self._last, now_ms + ANSWER_MS)
        return Send(peer, PreservedRequest(correlation=self._last, after=after))

    def _expire(self, asked: _Asked, now_ms: int) -> None:
        for peer, (_, deadline_ms) in list(asked.owing.items()):
            if now_ms >= deadline_ms:
                del asked.owing[peer]
                asked.listing.failed[peer] = f"no answer within {ANSWER_MS // 1000} s"

    def _page(self, after: int, rows_max: int, bytes_max: int) -> tuple[list[PreservedRow], bool]:
        rows: list[PreservedRow] = []
        for row in self._catalog.preserved(rows_max + 1, max(0, min(after, 2**62))):
            wire = _wire(row)
            bytes_max -= len(wire.path)
            if len(rows) == rows_max or (bytes_max < 0 and rows):
                return rows, True
            rows.append(wire)
        return rows, False


def _wire(row: Row) -> PreservedRow:
    return PreservedRow(
        number=row.preserved_id,
        pre_existing=row.store == PRE_EXISTING,
        path=row.path[-PRESERVED_PATH_MAX:],
        kind=row.kind,
        size=row.size,
        digest=row.digest,
        replica=row.replica or 0,
        winner=row.winner or 0,
        when_ms=row.when_ms,
        why=row.why[:WHY_CHARACTERS_MAX],
    )
