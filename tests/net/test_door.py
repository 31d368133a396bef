"""Who is let in, to what, and what the others hear."""

import asyncio
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from replicad.errors import PeerError
from replicad.net.addresses import Address
from replicad.net.client import new_session, url_of
from replicad.net.identity import check_certificate
from replicad.net.join import JoinDesk, Joiner
from replicad.net.joining import join_by_secret, join_by_token
from replicad.net.refusal import Code, Refused
from replicad.net.tls import guest_context, member_context
from replicad.net.token import Token, new_invitation, token_id
from tests.net.certificates import make_certificate, make_identity
from tests.net.invitations import MemoryInvitations
from tests.net.nodes import GROUP, PATIENCE_S, Node, refused_port, two_nodes, with_settings

SECRET = b"s" * 16
KEY = b"k" * 32


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Node, Node]:
    return two_nodes(tmp_path)


class Door:
    """A desk whose group takes in everyone that proves the token or the secret."""

    def __init__(self, node: Node, *, secret_key: bytes | None = KEY) -> None:
        self.admitted: list[Joiner] = []
        self.invitations = MemoryInvitations(new_invitation(SECRET, 1_000_000, 1))
        self.desk = JoinDesk(
            node.identity,
            GROUP,
            invitations=self.invitations,
            admit=self.admit,
            now_ms=lambda: 0,
            secret_key=secret_key,
        )

    async def admit(self, joiner: Joiner) -> bytes:
        self.admitted.append(joiner)
        return b"the first records"


async def test_i11_a_removed_member_is_cut_off_at_once_and_hears_why(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        await beta.linked(alpha)
        await alpha.linked(beta)
        alpha.seen.removed.add(beta.id)
        alpha.knows()
        await alpha.seen.until(lambda: alpha.seen.downs)
        assert alpha.seen.downs[0][1] == "the member was removed from the group"
        await beta.seen.until(lambda: beta.seen.downs)
        await beta.seen.until(lambda: beta.seen.refusals)
        member_id, refusal = beta.seen.refusals[0]
        assert (member_id, refusal.code) == (alpha.id, Code.REMOVED)
        assert str(refusal) == "this member was removed from the group"
        assert len(alpha.seen.ups) == 1


async def test_i11_whatever_a_removed_member_has_open_is_cut(pair: tuple[Node, Node]) -> None:
    """Also a connection that it made before its removal, and that asks for something only afterwards."""
    alpha, beta = pair
    async with alpha.running(), beta.running():
        alpha.knows(beta)
        session = new_session(member_context(beta.identity, alpha.identity.certificate_der))
        async with session:
            async with session.get(url_of(alpha.address, "/v1/alive")) as answer:
                assert answer.status == 204
            alpha.knows()
            with pytest.raises(aiohttp.ClientError):
                await session.get(url_of(alpha.address, "/v1/alive"))


async def test_i11_a_certificate_that_a_member_signed_is_no_member(pair: tuple[Node, Node], tmp_path: Path) -> None:
    """OpenSSL takes every member's certificate as an authority: the chain verifies, and the guard refuses."""
    alpha, _ = pair
    authority = make_certificate(tmp_path, "authority", ca=True)
    leaf = make_certificate(tmp_path, "leaf", issuer=authority)
    async with alpha.running():
        assert alpha.network.set_members({check_certificate(authority.der): authority.der}) == {}
        context = guest_context(alpha.id)
        context.load_cert_chain(leaf.certificate_path, leaf.key_path)
        async with new_session(context) as session, session.get(url_of(alpha.address, "/v1/alive")) as answer:
            assert answer.status == 403
            assert answer.headers["Replicad-Refusal"] == Code.NOT_A_MEMBER


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/stream"),
        ("GET", "/v1/alive"),
        ("GET", "/v1/join/hello"),
        ("GET", "/"),
        ("POST", "/v1/content/files"),
        ("POST", "/v1/content/answer/1"),
        ("POST", "/v1/join/hello/"),
        ("POST", "/v1/join/../stream"),
        ("POST", "//v1/join/hello"),
        ("OPTIONS", "*"),
    ],
)
async def test_i11_without_a_certificate_there_is_one_refusal_and_nothing_else(
    pair: tuple[Node, Node], method: str, path: str
) -> None:
    alpha, beta = pair
    async with alpha.running(desk=Door(alpha).desk):
        alpha.knows(beta)
        answer = await ask_raw(alpha, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode() * 2)
        assert answer.count(b"HTTP/1.1") == 1, "one answer, and the connection is closed"
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"join-only" in answer


async def ask_raw(node: Node, request: bytes) -> bytes:
    """All that a guest is answered, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(
        node.address.host, node.address.port, ssl=guest_context(node.id), server_hostname="replicad"
    )
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    finally:
        writer.transport.abort()


async def test_the_two_requests_of_a_join_are_served_to_a_guest(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    async with alpha.running(desk=Door(alpha).desk):
        for path in ("/v1/join/hello", "/v1/join/proof"):
            request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nbad".encode()
            answer = await ask_raw(alpha, request)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"cannot be read" in answer


async def test_a_request_that_is_too_long_is_refused_unread(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    async with alpha.running(desk=Door(alpha).desk):
        head = b"POST /v1/join/hello HTTP/1.1\r\nHost: x\r\n"
        answer = await ask_raw(alpha, head + b"Content-Length: 1000000000\r\n\r\n" + bytes(1000))
        assert b"too long" in answer
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + bytes(65_536) + b"\r\n") * 5
        assert b" 413 " in (await ask_raw(alpha, chunked)).split(b"\r\n")[0]


async def test_where_nobody_can_join_a_guest_hears_so(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        token = Token(GROUP, alpha.id, SECRET, (alpha.address,), 1_000)
        with pytest.raises(Refused, match="takes nobody in"):
            await join_by_token(beta.identity, token, b"")


async def test_a_token_joins_over_the_network_at_any_of_its_addresses(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    door = Door(alpha)
    async with alpha.running(desk=door.desk):
        token = Token(GROUP, alpha.id, SECRET, (refused_port(), alpha.address), 1_000_000)
        joined = await join_by_token(beta.identity, token, b"I am beta")
        assert joined.payload == b"the first records"
        assert (joined.group_id, joined.member_id) == (GROUP, alpha.id)
        assert joined.certificate_der == alpha.identity.certificate_der
        assert joined.address == alpha.address
        assert [joiner.payload for joiner in door.admitted] == [b"I am beta"]
        assert door.admitted[0].source == "127.0.0.1"
        assert door.invitations.books[token_id(SECRET)].used_by == (beta.id,)


async def test_used_and_wrong_tokens_are_refused_over_the_network(pair: tuple[Node, Node], tmp_path: Path) -> None:
    alpha, beta = pair
    gamma = make_identity(tmp_path, "gamma")
    async with alpha.running(desk=Door(alpha).desk):
        token = Token(GROUP, alpha.id, SECRET, (alpha.address,), 1_000_000)
        await join_by_token(beta.identity, token, b"")
        with pytest.raises(Refused, match="has been used"):
            await join_by_token(gamma, token, b"")
        with pytest.raises(Refused, match="not known here"):
            await join_by_token(gamma, Token(GROUP, alpha.id, b"?" * 16, (alpha.address,), 1), b"")


async def test_a_token_is_shown_to_nobody_but_its_inviter(pair: tuple[Node, Node], tmp_path: Path) -> None:
    """Another member answers at the inviter's address: the joiner leaves before it has said anything."""
    alpha, beta = pair
    gamma = make_identity(tmp_path, "gamma")
    door = Door(alpha)
    async with alpha.running(desk=door.desk):
        token = Token(GROUP, beta.id, SECRET, (alpha.address,), 1_000_000)
        with pytest.raises(PeerError, match="another member or program answers there"):
            await join_by_token(gamma, token, b"")
        assert door.desk._failures._sources == {}, "a request came through"
        assert door.admitted == []


async def test_a_secret_joins_at_the_first_seed_that_knows_it(pair: tuple[Node, Node]) -> None:
    """Seeds: one that is down, this member itself, one with another secret, the right one."""
    alpha, beta = pair
    right, wrong = Door(alpha), Door(beta, secret_key=b"w" * 32)
    joiner = Node(make_identity(alpha.identity.key_path.parent, "joiner"))
    async with alpha.running(desk=right.desk), beta.running(desk=wrong.desk), joiner.running():
        seeds = [refused_port(), joiner.address, beta.address, alpha.address]
        joined = await join_by_secret(joiner.identity, GROUP, KEY, seeds, b"hello")
        assert joined.member_id == alpha.id
        assert wrong.admitted == []
        with pytest.raises(PeerError) as caught:
            await join_by_secret(joiner.identity, GROUP, KEY, seeds[:3], b"hello")
        for reason in ("the member itself", "does not know the group's secret", str(seeds[0])):
            assert reason in str(caught.value)


async def test_idle_strangers_keep_nobody_out(pair: tuple[Node, Node]) -> None:
    """More of them than handshakes are allowed at once, each connected and silent."""
    alpha, beta = pair
    async with alpha.running(settings=with_settings(handshakes_max=4)), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        strangers = [await asyncio.open_connection(alpha.address.host, alpha.address.port) for _ in range(8)]
        beta.dials(alpha)
        await beta.linked(alpha)
        assert await asyncio.wait_for(strangers[0][0].read(), PATIENCE_S) == b"", "the oldest gave its place"
        for _, writer in strangers:
            writer.transport.abort()


async def test_guests_beyond_their_number_take_each_others_place(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(settings=with_settings(guests_max=2)), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        await beta.linked(alpha)
        guests = []
        for _ in range(3):
            guest = await asyncio.open_connection(
                alpha.address.host, alpha.address.port, ssl=guest_context(alpha.id), server_hostname="replicad"
            )
            guests.append(guest)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(guests[0][0].readexactly(1), PATIENCE_S)
        assert alpha.network.link(beta.id)
        for _, writer in guests:
            writer.transport.abort()


async def test_a_guest_is_gone_after_its_time(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    async with alpha.running(settings=with_settings(guest_ms=100)):
        reader, writer = await asyncio.open_connection(
            alpha.address.host, alpha.address.port, ssl=guest_context(alpha.id), server_hostname="replicad"
        )
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        writer.transport.abort()


async def test_what_is_no_tls_is_dropped(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(), beta.running():
        reader, writer = await asyncio.open_connection(alpha.address.host, alpha.address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.transport.abort()
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        await beta.linked(alpha)


async def test_a_redirect_leads_nowhere(pair: tuple[Node, Node]) -> None:
    """Something with a member's key that is not replicad: a redirect would take requests past the pinned key."""
    alpha, beta = pair
    served = 0

    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal served
        served += 1
        raise web.HTTPFound(f"https://127.0.0.1:{port}/elsewhere")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(alpha.identity.certificate_path, alpha.identity.key_path)
    runner = web.ServerRunner(web.Server(redirect))
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        site = web.SockSite(runner, bound, ssl_context=tls)
        await site.start()
        async with beta.running():
            beta.knows(alpha)
            remote = beta.network._remotes[alpha.id]
            with pytest.raises(PeerError, match="redirect"):
                await remote._dialer.reach(remote.session, [Address("127.0.0.1", port)])
            with pytest.raises(PeerError, match="redirect"):
                await remote._dialer.connect([Address("127.0.0.1", port)])
        assert served == 2
        await runner.cleanup()
