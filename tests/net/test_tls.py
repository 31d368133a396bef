"""The handshake, with OpenSSL on both sides and asyncio's own TLS over loopback where bytes on the wire matter."""

import asyncio
import ssl
from pathlib import Path

import pytest

from replicad.net.identity import Identity
from replicad.net.tls import ServerTrust, abort, guest_context, member_context, peer_certificate
from tests.net.certificates import make_certificate, make_identity


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """(server's side, client's side) once both are done; raises what either raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="replicad"),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for side in sides:
        side.do_handshake()
    return sides[0], sides[1]


@pytest.fixture
def alpha(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "alpha")


@pytest.fixture
def beta(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "beta")


def trust(identity: Identity, *members: Identity) -> ServerTrust:
    server = ServerTrust(identity)
    server.set_members(member.certificate_der for member in members)
    return server


def test_two_members_know_each_other_by_key(alpha: Identity, beta: Identity) -> None:
    server, client = shake_hands(trust(alpha, beta).context(), member_context(beta, alpha.certificate_der))
    assert client.version() == "TLSv1.3"
    assert peer_certificate(server) == beta.certificate_der
    assert peer_certificate(client) == alpha.certificate_der


def test_a_member_is_known_among_two_hundred(tmp_path: Path, alpha: Identity) -> None:
    members = [make_identity(tmp_path, f"member-{number}") for number in range(200)]
    server = trust(alpha, *members).context()
    for member in (members[0], members[117], members[199]):
        accepted, _ = shake_hands(server, member_context(member, alpha.certificate_der))
        assert peer_certificate(accepted) == member.certificate_der


def test_a_removed_member_is_out_at_its_next_connection(alpha: Identity, beta: Identity) -> None:
    server = trust(alpha, beta)
    dialer = member_context(beta, alpha.certificate_der)
    shake_hands(server.context(), dialer)
    server.set_members([])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server.context(), dialer)


def test_the_context_is_made_anew_only_when_the_members_change(alpha: Identity, beta: Identity) -> None:
    server = trust(alpha, beta)
    first = server.context()
    server.set_members([beta.certificate_der])
    assert server.context() is first
    server.set_members([beta.certificate_der, alpha.certificate_der])
    assert server.context() is not first


def test_who_comes_without_a_certificate_is_let_in_as_nobody(alpha: Identity, beta: Identity) -> None:
    server, _ = shake_hands(trust(alpha, beta).context(), guest_context(alpha.member_id))
    assert peer_certificate(server) is None


def test_a_guest_meets_only_the_fingerprint_it_expects(alpha: Identity, beta: Identity) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expected member"):
        shake_hands(trust(alpha).context(), guest_context(beta.member_id))
    shake_hands(trust(alpha).context(), guest_context(None))


def test_a_certificate_signed_by_the_expected_member_is_not_that_member(tmp_path: Path, beta: Identity) -> None:
    """OpenSSL takes the expected member's certificate as the issuer of another: the chain verifies, and is refused."""
    expected = make_certificate(tmp_path, "expected", ca=True)
    impostor = make_certificate(tmp_path, "impostor", issuer=expected)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(impostor.certificate_path, impostor.key_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="expected member"):
        shake_hands(server, member_context(beta, expected.der))


def test_an_older_version_of_tls_is_refused(alpha: Identity, beta: Identity) -> None:
    client = member_context(beta, alpha.certificate_der)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(trust(alpha, beta).context(), client)


def test_no_session_is_resumed(alpha: Identity, beta: Identity) -> None:
    """A resumed session would bring a removed member in without its certificate being looked at."""
    server, client = trust(alpha, beta).context(), member_context(beta, alpha.certificate_der)
    _, first = shake_hands(server, client)
    with pytest.raises(ssl.SSLWantReadError):
        first.read(1)  # takes in what the server sent after its handshake: tickets would be there
    assert first.session is not None
    assert not first.session.has_ticket


async def test_nothing_after_the_hello_reaches_a_stranger(tmp_path: Path, alpha: Identity, beta: Identity) -> None:
    """A stranger with any certificate, where alpha was expected: it sees neither beta's certificate nor a request."""
    stranger = make_certificate(tmp_path, "stranger")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(stranger.certificate_path, stranger.key_path)
    for context in (member_context(beta, alpha.certificate_der), guest_context(alpha.member_id)):
        flights = await record_flights_to(tls, context)
        assert [flight[0] for flight in flights] == [0x16], "one TLS record, the hello"
        assert beta.certificate_der not in b"".join(flights)


async def record_flights_to(tls: ssl.SSLContext, context: ssl.SSLContext) -> list[bytes]:
    """What a dialer with `context` sends to a server with `tls` that shakes hands by itself and keeps what it reads."""
    flights: list[bytes] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = tls.wrap_bio(incoming, outgoing, server_side=True)
        while data := await reader.read(65_536):
            flights.append(data)
            incoming.write(data)
            try:
                side.do_handshake()
            except ssl.SSLError:
                pass
            writer.write(outgoing.read())
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="replicad")
        await asyncio.wait_for(ended.wait(), 5)
    return flights


@pytest.mark.parametrize("closed_times", [0, 1, 2])
async def test_a_connection_can_be_dropped_in_whatever_state_it_is(alpha: Identity, closed_times: int) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionError:
            pass
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=trust(alpha).context())
    async with server:
        port = server.sockets[0].getsockname()[1]
        context = guest_context(alpha.member_id)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="replicad")
        for _ in range(closed_times):
            writer.transport.close()
        abort(writer.transport)
        await asyncio.wait_for(ended.wait(), 5)
