"""The dialing side of HTTP: sessions whose connections can only be to one member, and errors in our own words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from yarl import URL

from replicad.errors import PeerError
from replicad.net.addresses import Address
from replicad.net.refusal import from_headers
from replicad.net.tls import SERVER_NAME

CONNECT_S = 10.0
"""TCP and TLS: four round trips over the worst link, with a lost packet among them."""
SILENCE_S = 60.0
"""A peer that owes us bytes and sends none for so long is gone; so is one that takes none of what it asked for."""
IDLE_CONNECTION_S = 30.0
CONNECTIONS_MAX = 16
"""To one member: the stream, and more requests for content than are made at once (net.content_client)."""
READ_BUFFER_BYTES = 1_048_576
"""aiohttp's own 64 KiB halves the throughput of large bodies; it may hold twice this much a connection."""


class UnreachableError(PeerError):
    """Nobody answers at an address, or not the one who should."""


def new_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Every connection of the session is made with `context`, which pins the member: net.tls, rule 3.

    No proxy and no cookies from the environment; a redirect is an error (it would lead past the pin).
    """
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_CONNECTION_S)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
        headers={"User-Agent": "replicad"},
        skip_auto_headers=("Accept-Encoding",),
        middlewares=(_no_redirect,),
    )


def url_of(address: Address, path: str) -> URL:
    return URL.build(scheme="https", host=address.host, port=address.port, path=path)


async def post(
    session: aiohttp.ClientSession, address: Address, path: str, body: bytes, answer_bytes_max: int
) -> bytes:
    """The body of the answer; Refused where the other refuses, UnreachableError where it cannot be asked."""
    with as_peer_errors():
        async with session.post(url_of(address, path), data=body, server_hostname=SERVER_NAME) as response:
            if response.status != 200:
                raise from_headers(response.status, response.headers)
            answer = bytearray()
            async for data in response.content.iter_any():
                answer += data
                if len(answer) > answer_bytes_max:
                    raise PeerError("the answer is too long")
            return bytes(answer)


@contextmanager
def as_peer_errors() -> Iterator[None]:
    """Turns what a connection can raise into UnreachableError; refusals pass through."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise UnreachableError(f"another member or program answers there ({error.certificate_error})") from error
    except TimeoutError as error:
        raise UnreachableError("no answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise UnreachableError(_plain(error.os_error)) from error
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
        raise UnreachableError(_plain(error)) from error


def _plain(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


async def _no_redirect(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientError("the answer is a redirect: not a member of replicad")
    return response
