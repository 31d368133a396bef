"""The one taxonomy of errors.

Four kinds, by who has to act: the operator made a mistake, a peer is at fault, one file has trouble, or the catalog is
in doubt. Edges convert library errors into one of these with ``raise … from``; everything else is a bug of ours and
ends the daemon with a traceback.
"""


class ReplicadError(Exception):
    """Base of all. `str()` is one line: what, where, why, what to do."""


class OperatorError(ReplicadError):
    """The operator's mistake or the world's: a one-line message, exit status 1 unless a subclass says otherwise."""

    exit_status = 1


class OpenAnewError(OperatorError):
    """A folder's directory is to be opened anew: the folder ends, and begins again at once."""


class UsageError(OperatorError):
    """Wrong usage or configuration; exit status 2."""

    exit_status = 2


class NoDaemonError(OperatorError):
    """No daemon answers on the home's control socket; exit status 3."""

    exit_status = 3


class TimeOutError(OperatorError):
    """The time an operator gave ran out; exit status 4."""

    exit_status = 4


class PeerError(ReplicadError):
    """A peer is at fault: a malformed message, a refused connection, a broken promise. It stops only that exchange."""


class ProtocolError(PeerError):
    """A message breaks docs/PROTOCOL.md: too long, malformed, out of its limits. The connection is closed."""


class RefusedError(PeerError):
    """The peer refused us, with its reason."""


class FileTrouble(ReplicadError):
    """One file or directory has trouble; it is listed in `blocked` with `reason`, everything else goes on.

    `transient` says whether trying again later may help without an operator.
    """

    def __init__(self, path: bytes, reason: str, *, transient: bool = True) -> None:
        super().__init__(f"{path!r}: {reason}")
        self.path = path
        self.reason = reason
        self.transient = transient


class CatalogError(ReplicadError):
    """The catalog is in doubt: unreadable, corrupt, newer than this program. Nothing is originated on its word."""


class CatalogDiskError(CatalogError):
    """The disk beneath the catalog is full, read-only or failing: what is stored holds, and it may heal by itself."""
