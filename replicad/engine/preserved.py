"""What is preserved of a folder, on this member and on the others: list, bring back, delete (docs/preserved.md).

Each member keeps its own files and its own list. Who asks for the whole of it asks every member of the folder, the
linked ones and through them the others (engine.preserved_asking, engine.relaying), and puts together what they answer;
one that is not reached, does not answer in time or tells too much is named. A member may be asked to bring back one of
its own: that only adds a file, which any member may. To delete is for the operator of the member that keeps it: nothing
that comes over a link removes a preserved file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from replicad.catalog.changes import CONFLICT_AND_DELETED, PRE_EXISTING
from replicad.catalog.changes import Preserved as Row
from replicad.catalog.store import Catalog
from replicad.core.effects import Changed, Effect, LinkDown, LinkUp, Received, Send
from replicad.core.ids import MemberId
from replicad.core.messages import (
    PAGE_BYTES_MAX,
    PRESERVED_PATH_MAX,
    PRESERVED_ROWS_MAX,
    WHY_CHARACTERS_MAX,
    Answer,
    Answered,
    PreservedPage,
    PreservedRequest,
    PreservedRow,
    Question,
    Restore,
    RestoreReply,
    decode_message,
    encode_message,
)
from replicad.engine.collecting import Collecting
from replicad.engine.copying_back import CopyingBack
from replicad.engine.digesting import Digesting
from replicad.engine.exchange import Exchange
from replicad.engine.folder_events import Surroundings
from replicad.engine.preserved_asking import Asking, Failure
from replicad.engine.relaying import Relaying
from replicad.engine.restoring import delete, restore
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError, ProtocolError
from replicad.files.fs import FileSystem


class Preserved:
    """Of one folder; on the thread that owns its catalog. `hindrance` says why nothing may be done to the tree now."""

    def __init__(
        self,
        catalog: Catalog,
        fs: FileSystem,
        own: MemberId,
        around: Surroundings,
        exchange: Exchange,
        *,
        hindrance: Callable[[], str],
        brought: Callable[[bytes], None],
    ) -> None:
        """`brought` is told of a path that the scanner should look at."""
        self._catalog = catalog
        self._fs = fs
        self._own = own
        self._may_send = around.may_send
        self._exchange = exchange
        self._hindrance = hindrance
        self._brought = brought
        self._collecting = Collecting(catalog, fs)
        self._digesting = Digesting(catalog, fs, around.large_bytes)
        self.hashed = self._digesting.hashed
        self.recheck = self._collecting.recheck
        self._asking = Asking(own, self._links, around.new_bytes)
        self.listing = self._asking.listing
        self._relaying = Relaying(own, around.may_send, exchange.connected)
        self._copying = CopyingBack(catalog, fs, hindrance)
        self._mine: dict[int, RestoreReply | None] = {}
        """What is brought back here for this member's operator, by ticket; None: under way."""

    # -- the operator's side

    def list_group(
        self, members: Iterable[MemberId], now_ms: int, *, rows_max: int | None = None
    ) -> tuple[int, list[Effect]]:
        """Ask the folder's members, and this one. Returns the ticket for `listing`. `rows_max`: in the whole list."""
        own = lambda rows, size: self._page(0, rows, size)  # noqa: E731
        return self._asking.list_all(members, own, now_ms, rows_max=rows_max)

    def restore_at(
        self, member: MemberId, number: int, to: bytes, members: Iterable[MemberId], now_ms: int
    ) -> tuple[int, list[Effect]]:
        """Have a member of the folder bring back one of its own, this one or another. Returns the ticket."""
        if member != self._own:
            return self._asking.restore_at(member, number, to, members, now_ms)
        ticket = -1 - len(self._mine)
        while ticket in self._mine:
            ticket -= 1
        self._mine[ticket] = None

        def done(reply: RestoreReply) -> list[Effect]:
            if ticket in self._mine:
                self._mine[ticket] = reply
            return [Changed()]

        return ticket, self._bring_back(number, to, done, now_ms)

    def restored(self, ticket: int, now_ms: int) -> RestoreReply | Failure | None:
        """None while it is under way. Then `forget` it."""
        return self._mine[ticket] if ticket < 0 else self._asking.restored(ticket, now_ms)

    def forget(self, ticket: int) -> None:
        self._mine.pop(ticket, None)
        self._asking.forget(ticket)

    def restore(self, number: int, to: bytes, now_ms: int) -> bytes:
        """One of this member's own that takes no copying; its path. Raises OperatorError."""
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

    def handle(self, event: Received | LinkUp | LinkDown, now_ms: int) -> list[Effect]:
        """Raises ProtocolError where a neighbour sends what it should not."""
        match event:
            case LinkUp(peer) | LinkDown(peer):  # a new link, too, is the end of the one before
                return [*self._relaying.link_down(peer), *self._asking.link_down(peer, now_ms)]
            case Received(peer, message) if self._may_send(peer):
                return self._received(peer, message, now_ms)
        return []

    def work(self, settings: FolderSettings, now_ms: int, *, disk: bool) -> list[Effect]:
        """A bounded piece of what is to be done by itself; `disk`: the root is there. Raises CatalogError."""
        out = self._asking.work(now_ms)
        out += self._copying.work()
        if not disk:
            return out
        return [*out, *self._collecting.work(settings, now_ms), *self._digesting.work(now_ms)]

    def next_due_ms(self, now_ms: int, *, disk: bool) -> int | None:
        due = [self._asking.next_due_ms()]
        if self._copying.under_way or (disk and self._digesting.due):
            due.append(now_ms)
        if disk:
            due.append(self._collecting.next_due_ms(now_ms))
        return min((at for at in due if at is not None), default=None)

    def close(self) -> None:
        self._copying.close()

    def clock_set_back(self, back_ms: int) -> None:
        """Every time kept here moves with the clock."""
        self._asking.clock_set_back(back_ms)
        self._relaying.clock_set_back(back_ms)

    # -- inside

    def _links(self) -> Callable[[MemberId], Iterable[MemberId]]:
        statuses, connected = self._exchange.statuses(), self._exchange.connected()

        def of(member: MemberId) -> Iterable[MemberId]:
            if member == self._own:
                return connected
            known = statuses.get(member)
            return [one.hex() for one in known.connected] if known is not None else ()

        return of

    def _received(self, peer: MemberId, message: object, now_ms: int) -> list[Effect]:
        match message:
            case Question() if not self._relaying.arrived(peer, message):
                return self._relaying.pass_on(peer, message, now_ms)
            case Question(route=route) if self._may_send(route[0].hex()):
                return self._asked(peer, message, now_ms)
            case Answer(asker=asker) if asker.hex() == self._own:
                return self._asking.answered(peer, message, now_ms)
            case Answer():
                return self._relaying.pass_back(peer, message)
        return []

    def _asked(self, peer: MemberId, question: Question, now_ms: int) -> list[Effect]:
        """A question that cannot be read is the asker's fault, who may be another than the neighbour: no answer."""

        def answer(told: Answered) -> list[Effect]:
            asker, number = question.route[0], question.correlation
            return [Send(peer, Answer(asker=asker, correlation=number, answered=encode_message(told)))]

        try:
            asked = decode_message(question.asked)
        except ProtocolError:
            return []
        match asked:
            case PreservedRequest(after=after):
                return answer(self._page(after, PRESERVED_ROWS_MAX, PAGE_BYTES_MAX))
            case Restore(number=number, to=to):
                return self._bring_back(number, to, answer, now_ms)
        return []

    def _bring_back(
        self, number: int, to: bytes, done: Callable[[RestoreReply], list[Effect]], now_ms: int
    ) -> list[Effect]:
        def told(path: bytes, reason: str) -> list[Effect]:
            if path:
                self._brought(path)
            return done(RestoreReply(path=path, reason=reason))

        try:
            if self._copying.begin(number, to, told, now_ms):
                return []
            path = self.restore(number, to, now_ms)
        except OperatorError as error:
            return told(b"", str(error))
        return done(RestoreReply(path=path, reason=""))

    def _page(self, after: int, rows_max: int, bytes_max: int) -> PreservedPage:
        rows: list[PreservedRow] = []
        more = False
        for row in self._catalog.preserved(rows_max + 1, max(0, min(after, 2**62))):
            wire = _wire(row)
            bytes_max -= len(wire.path)
            if len(rows) == rows_max or (bytes_max < 0 and rows):
                more = True
                break
            rows.append(wire)
        files = sum(self._catalog.preserved_tally(store)[0] for store in (CONFLICT_AND_DELETED, PRE_EXISTING))
        return PreservedPage(rows=rows, more=more, files=files)


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
