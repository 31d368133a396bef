"""Who may do what over the operator API.

Over the control socket everything: its file mode is the proof. Over TCP: reading from loopback needs no token; every
change, and everything off loopback, needs one. A browser on the operator's machine can be led to loopback by any web
page whose name resolves there (DNS rebinding), and can send simple requests across origins: so without a token the
Host must name loopback itself, and no request that comes from another origin is served.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from replicad.config.home import TOKEN_FILE
from replicad.config.settings import ApiSettings
from replicad.errors import OperatorError
from replicad.net.durable import write_durably

TOKEN_BYTES = 32
TOKEN_CHARACTERS_MIN = 16
"""Of a token that an operator made: shorter ones can be guessed."""
_TOKEN_FILE_BYTES_MAX = 4_096
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request decides. `remote`: the peer's IP address, None on the control socket."""

    path: str
    changes: bool
    remote: str | None
    host: str
    origin: str | None
    authorization: str | None


def refusal(request: Request, token: str) -> tuple[int, str] | None:
    """None where the request is allowed, else HTTP status and reason."""
    if request.remote is None or request.path in OPEN_PATHS:
        return None
    if request.authorization is not None:
        if _token_matches(request.authorization, token):
            return None
        return 401, "the token is wrong: see `replicad token`"
    if request.changes:
        return 401, "a change needs the token: Authorization: Bearer ..., see `replicad token`"
    if not is_loopback(request.remote):
        return 401, "from outside loopback every request needs the token: see `replicad token`"
    if not names_loopback(request.host):
        return 403, "the Host header does not name loopback: ask for 127.0.0.1, or give the token"
    if request.origin is not None and not _is_loopback_origin(request.origin):
        return 403, "requests of other web pages are not answered without the token"
    return None


def is_loopback(ip: str) -> bool:
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def names_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, is an IP address of loopback or `localhost`."""
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    return name.lower() == "localhost" or is_loopback(name)


def token_path(home: Path, settings: ApiSettings) -> Path:
    return settings.token_file or home / TOKEN_FILE


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def read_or_create_token(home: Path, settings: ApiSettings) -> str:
    """The token; one is made where the home has none yet. OperatorError says what is wrong with the file."""
    path = token_path(home, settings)
    try:
        if settings.token_file is None and not path.exists():
            write_durably(path, new_token() + "\n")
        return _read_token(path)
    except OSError as error:
        raise OperatorError(f"cannot use the token file {path}: {error.strerror}") from error


def rotate_token(home: Path, settings: ApiSettings) -> str:
    """A new token in place of the old one, which is refused from now on."""
    path = token_path(home, settings)
    token = new_token()
    try:
        write_durably(path, token + "\n")
    except OSError as error:
        raise OperatorError(f"cannot write the token file {path}: {error.strerror}") from error
    return token


class TokenFile:
    """The current token; the file is read again when it has changed, so a rotation needs no restart."""

    def __init__(self, home: Path, settings: ApiSettings) -> None:
        self._path = token_path(home, settings)
        self._token = read_or_create_token(home, settings)
        self._seen = self._fingerprint()

    def current(self) -> str:
        """Blocking, but one stat of a local file. While the file cannot be read the last token stays in force."""
        seen = self._fingerprint()
        if seen is not None and seen != self._seen:
            try:
                self._token = _read_token(self._path)
            except OSError:
                return self._token
            self._seen = seen
        return self._token

    def _fingerprint(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _read_token(path: Path) -> str:
    with path.open("rb") as file:
        token = file.read(_TOKEN_FILE_BYTES_MAX).decode("ascii", "replace").strip()
    if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii() or not token.isprintable():
        raise OperatorError(f"{path} holds no token: it needs at least {TOKEN_CHARACTERS_MIN} printable characters")
    return token


def _token_matches(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())


def _is_loopback_origin(origin: str) -> bool:
    _, separator, host = origin.partition("://")
    return bool(separator) and names_loopback(host)
