"""The book of invitations, kept in memory; the daemon keeps it in its catalog."""

from replicad.core.ids import MemberId
from replicad.net.refusal import Code, Refused
from replicad.net.token import Invitation


class MemoryInvitations:
    def __init__(self, *invitations: Invitation) -> None:
        self.books = {invitation.token_id: invitation for invitation in invitations}

    async def find(self, token_id: bytes) -> Invitation | None:
        return self.books.get(token_id)

    async def take(self, token_id: bytes, member_id: MemberId, now_ms: int) -> None:
        book = self.books.get(token_id)
        if book is None:
            raise Refused(Code.TOKEN, "the token is not known here")
        self.books[token_id] = book.taken(member_id, now_ms)
