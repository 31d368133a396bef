"""How one member refuses another: a code for the program, a reason for the person at the other end.

Over HTTP it stands in two headers of the answer (which a refused WebSocket shows too) and, for people with curl, in
the body; on a stream it is a message of its own (`net.wire.Refuse`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import quote, unquote

from replicad.errors import RefusedError

CODE_HEADER = "Replicad-Refusal"
REASON_HEADER = "Replicad-Reason"
REASON_CHARACTERS_MAX = 300
"""One line on a terminal, or two; a peer's text is never trusted to be shorter."""


class Code(StrEnum):
    """Why; unknown codes of later versions are kept as they came."""

    JOIN_ONLY = "join-only"
    """Came without a certificate, and may do nothing but join."""
    REMOVED = "removed"
    NOT_A_MEMBER = "not-a-member"
    TOKEN = "token"  # noqa: S105 - a code, not a secret
    SECRET = "secret"  # noqa: S105
    LIMIT = "limit"
    VERSION = "version"
    GROUP = "group"
    DUPLICATE = "duplicate"
    """The two have a link already, and it answers."""
    COPY = "copy"
    """Another process with the same key has the link, and answers on it."""
    BUSY = "busy"
    FOLDER = "folder"
    """Not in the folder's replica list."""
    GONE = "gone"
    """The content is no longer here."""
    REQUEST = "request"
    """Malformed, or out of its limits."""


HTTP_STATUS: dict[str, int] = {Code.LIMIT: 429, Code.BUSY: 503, Code.REQUEST: 400, Code.GONE: 404}
"""All others are 403."""


class Refused(RefusedError):
    """Raised where a peer is refused, and again at the peer when the refusal arrives. `str()` is the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(printable(reason))
        self.code = code


def printable(text: str) -> str:
    """One line that is safe on a terminal, of bounded length."""
    line = "".join(character if character.isprintable() else "?" for character in text[:REASON_CHARACTERS_MAX])
    return line or "no reason given"


def http_status(refusal: Refused) -> int:
    return HTTP_STATUS.get(refusal.code, 403)


def to_headers(refusal: Refused) -> dict[str, str]:
    return {CODE_HEADER: refusal.code, REASON_HEADER: quote(str(refusal))}


def from_headers(status: int, headers: Mapping[str, str]) -> Refused:
    """What another member, or something else that speaks HTTP at its address, answered."""
    code = printable(headers.get(CODE_HEADER, ""))[:32] if CODE_HEADER in headers else "http"
    reason = unquote(headers.get(REASON_HEADER, "")[: 9 * REASON_CHARACTERS_MAX], errors="replace")
    return Refused(code, reason or f"HTTP status {status}")
