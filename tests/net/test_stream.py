"""The stream's first words and its frames, played by a peer that says whatever the test wants."""

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest

from replicad.net.connection import Connection, LinkClosedError
from replicad.net.refusal import Code
from replicad.net.wire import (
    FRAME_BYTES_MAX,
    Control,
    Deny,
    Hello,
    Ping,
    Pong,
    Ready,
    Refuse,
    Session,
    Want,
    Welcome,
    encode_control,
    encode_frame,
)
from tests.net.certificates import make_identity
from tests.net.nodes import FOLDER, Node, two_nodes, with_settings
from tests.net.rawpeer import RawPeer, raw_peer


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Node, Node]:
    """(the arbiter, the other)."""
    return two_nodes(tmp_path)


async def welcomed(peer: RawPeer) -> Welcome:
    await peer.say(peer.hello())
    answer = await peer.hear()
    assert isinstance(answer, Welcome)
    return answer


async def closing_reason(peer: RawPeer) -> str:
    """What the node says when it closes; what comes before is passed over."""
    try:
        while True:
            await peer.hear()
    except LinkClosedError as error:
        return str(error)


async def test_the_arbiters_welcome_makes_the_link(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            welcome = await welcomed(peer)
            assert (welcome.version, welcome.serial) == (1, 1)
            assert welcome.hello.member_id.hex() == alpha.id
            await alpha.linked(beta)


async def test_the_other_waits_for_the_arbiters_word(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with beta.running():
        beta.knows(alpha)
        async with raw_peer(alpha.identity, beta) as peer:
            assert (await welcomed(peer)).serial == 0
            assert beta.network.link(alpha.id) is None
            await peer.say(Ready(1))
            assert (await beta.linked(alpha)).info.serial == 1


async def test_a_second_connection_is_refused_while_the_first_answers(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as first, raw_peer(beta.identity, alpha) as second:
            await welcomed(first)
            await alpha.linked(beta)
            await second.say(second.hello())
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(answer_pings(first))
                answer = await second.hear()
                answering.cancel()
            assert isinstance(answer, Refuse)
            assert answer.code == Code.DUPLICATE
            assert not alpha.seen.downs


async def answer_pings(peer: RawPeer) -> None:
    while True:
        message = await peer.hear()
        if isinstance(message, Ping):
            await peer.say(Pong(message.number, message.time_ms))


async def test_a_first_connection_that_does_not_answer_gives_way(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(settings=with_settings(probe_ms=50)):
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as first, raw_peer(beta.identity, alpha) as second:
            await welcomed(first)
            old = await alpha.linked(beta)
            assert (await welcomed(second)).serial == 2
            await alpha.seen.until(alpha.seen.got_second_link)
            assert alpha.seen.downs == [(old, "replaced by a newer connection")]


async def test_an_older_word_of_the_arbiter_does_not_undo_a_newer_one(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with beta.running():
        beta.knows(alpha)
        async with raw_peer(alpha.identity, beta) as older, raw_peer(alpha.identity, beta) as newer:
            await welcomed(older)
            await welcomed(newer)
            await newer.say(Ready(2))
            link = await beta.linked(alpha)
            await older.say(Ready(1))
            refusal = await older.hear()
            assert isinstance(refusal, Refuse)
            assert refusal.code == Code.DUPLICATE
            assert beta.network.link(alpha.id) is link
            await newer.send(encode_frame(FOLDER, b"still here"))
            await beta.seen.until(beta.seen.got_message)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"versions": [2, 3]}, Code.VERSION),
        ({"group_id": b"h" * 16}, Code.GROUP),
        ({"member_id": bytes(32)}, Code.NOT_A_MEMBER),
    ],
)
async def test_a_hello_that_does_not_fit_is_refused_with_its_reason(
    pair: tuple[Node, Node], changes: dict[str, object], code: Code
) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await peer.say(peer.hello(**changes))
            answer = await peer.hear()
            assert isinstance(answer, Refuse)
            assert answer.code == code
            assert answer.reason in await closing_reason(peer)
        assert not alpha.seen.ups


async def test_the_highest_common_version_is_chosen_and_unknown_elements_are_ignored(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            hello = msgspec.msgpack.decode(msgspec.msgpack.encode(peer.hello(versions=[1, 7])))
            body = msgspec.msgpack.encode([*hello, "an element of version 7"])
            await peer.send(msgspec.msgpack.encode([b"\0", body, "and one of the frame"]))
            answer = await peer.hear()
            assert isinstance(answer, Welcome)
            assert answer.version == 1


async def test_who_says_nothing_is_dropped(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(settings=with_settings(hello_ms=50)):
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            assert "no sign of life" in await closing_reason(peer)
        assert not alpha.seen.ups


@pytest.mark.parametrize("message", [Ping(1, 1), Ready(1), Want(1, "files", b""), Refuse("busy", "no")])
async def test_what_is_no_hello_makes_no_link(pair: tuple[Node, Node], message: Control) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await peer.say(message)
            await closing_reason(peer)
        assert not alpha.seen.ups


GARBAGE = {
    "random bytes": b"\xff\xfe\xfd",
    "nothing": b"",
    "no array": msgspec.msgpack.encode({"a": 1}),
    "a channel that is none": msgspec.msgpack.encode([b"xyz", b""]),
    "a payload that is text": msgspec.msgpack.encode([FOLDER, "text"]),
    "a control message that is none": msgspec.msgpack.encode([b"\0", b"\xc1"]),
    "an unknown control message": msgspec.msgpack.encode([b"\0", msgspec.msgpack.encode([99, 1])]),
    "a hello after the hello": encode_control(
        Hello([1], bytes(32), bytes(16), Session(1, bytes(16)), bytes(16), "", [])
    ),
    "a ping beyond all numbers": msgspec.msgpack.encode([b"\0", msgspec.msgpack.encode([5, 2**64 - 1, 1])]),
}


@pytest.mark.parametrize("frame", GARBAGE.values(), ids=GARBAGE.keys())
async def test_i10_garbage_ends_its_link_with_a_reason_and_no_other(
    pair: tuple[Node, Node], tmp_path: Path, frame: bytes
) -> None:
    alpha, beta = pair
    gamma = Node(make_identity(tmp_path, "gamma"))
    async with alpha.running(), gamma.running():
        alpha.knows(beta, gamma)
        gamma.knows(alpha)
        gamma.dials(alpha)
        await alpha.linked(gamma)
        async with raw_peer(beta.identity, alpha) as peer:
            await join_as(peer, alpha)
            await alpha.linked(beta)
            await peer.send(frame)
            assert "closed by the peer" in await closing_reason(peer)
            await alpha.seen.until(lambda: alpha.seen.downs)
        assert [link.member_id for link, _ in alpha.seen.downs] == [beta.id]
        await (await gamma.linked(alpha)).send(FOLDER, b"good")
        await alpha.seen.until(alpha.seen.got_message)


async def join_as(peer: RawPeer, node: Node) -> None:
    """Up to the link, whichever of the two is the arbiter."""
    if (await welcomed(peer)).serial == 0:
        await peer.say(Ready(1))
    await node.seen.until(lambda: node.network.link(peer.identity.member_id))


async def test_text_ends_the_link(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await join_as(peer, alpha)
            await peer.connection.socket.send_str("hello")
            assert "text came" in await closing_reason(peer)


async def test_a_frame_that_is_too_long_ends_the_link_before_it_is_read(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await join_as(peer, alpha)
            await asyncio.gather(
                *(peer.send(bytes(FRAME_BYTES_MAX + 1_000_000)) for _ in range(8)), return_exceptions=True
            )
            await alpha.seen.until(lambda: alpha.seen.downs)
            assert "the stream is broken" in alpha.seen.downs[0][1]
        assert not alpha.seen.messages


async def test_who_asks_without_reading_the_answers_is_cut_off(pair: tuple[Node, Node]) -> None:
    """Each ping makes an answer; they may not pile up."""
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await join_as(peer, alpha)
            small_buffers(peer.connection, (await alpha.linked(beta))._connection)
            pinging = asyncio.create_task(ping_for_ever(peer))
            await alpha.seen.until(lambda: alpha.seen.downs)
            assert alpha.seen.downs[0][1] == "the peer asks and does not read the answers"
            with pytest.raises(LinkClosedError):
                await pinging


def small_buffers(*connections: Connection) -> None:
    """So that what the system takes without anyone reading it is little."""
    for connection in connections:
        end = connection.socket.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)


async def ping_for_ever(peer: RawPeer) -> None:
    for number in range(1, 5_000_000):
        await peer.say(Ping(number, 0))
        if number % 100 == 0:
            await asyncio.sleep(0)  # else nobody else has a turn


async def test_an_answer_that_nobody_asked_for_is_nothing(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with raw_peer(beta.identity, alpha) as peer:
            await join_as(peer, alpha)
            await peer.say(Pong(77, 1))
            await peer.say(Deny(77, "busy", "no"))
            await peer.send(encode_frame(FOLDER, b"still here"))
            await alpha.seen.until(alpha.seen.got_message)
