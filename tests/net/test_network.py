"""Members over real sockets: links come up, carry messages, and end as they should."""

import asyncio
import socket
from pathlib import Path

import pytest

from replicad.errors import OperatorError, PeerError, ProtocolError
from replicad.net.addresses import Address
from replicad.net.connection import LinkClosedError
from replicad.net.link import Link
from replicad.net.refusal import Code
from replicad.net.remote import Remote
from replicad.net.wire import PAYLOAD_BYTES_MAX, Session
from tests.net.certificates import make_identity
from tests.net.nodes import FOLDER, LOOPBACK, PATIENCE_S, Node, refused_port, two_nodes, with_settings
from tests.net.proxy import Proxy


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Node, Node]:
    """(the arbiter, the other)."""
    return two_nodes(tmp_path)


def first_failure(remote: Remote) -> asyncio.Event:
    """Set when an attempt to dial has failed, and the next one is put off."""
    failed = asyncio.Event()
    put_off = remote._put_off

    def observed(error: str) -> None:
        put_off(error)
        failed.set()

    remote._put_off = observed  # type: ignore[method-assign]
    return failed


async def test_two_members_have_a_link_and_talk(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(features=("a", "b")), beta.running(features=("b", "c")):
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        link = await beta.linked(alpha)
        assert link.info.dialed
        assert link.info.features == {"b"}
        assert link.info.software == "replicad 0"
        assert link.info.address == str(alpha.address)
        other = await alpha.linked(beta)
        assert not other.info.dialed
        assert (other.info.session, other.info.peer_session) == (link.info.peer_session, link.info.session)
        await link.send(FOLDER, b"one")
        assert link.try_send(b"", b"two")
        await alpha.seen.until(lambda: len(alpha.seen.messages) == 2)
        assert alpha.seen.messages == [(beta.id, FOLDER, b"one"), (beta.id, b"", b"two")]
        await other.send(FOLDER, b"three")
        await beta.seen.until(lambda: beta.seen.messages)
        assert beta.seen.messages == [(alpha.id, FOLDER, b"three")]
    assert [reason for _, reason in alpha.seen.downs] == ["closed by the peer: the member stops"]
    assert [reason for _, reason in beta.seen.downs] == ["the member stops"]


@pytest.mark.parametrize("dialer", [0, 1], ids=["the arbiter dials", "the other dials"])
async def test_either_may_dial(pair: tuple[Node, Node], dialer: int) -> None:
    one, other = pair[dialer], pair[1 - dialer]
    async with one.running(), other.running():
        one.knows(other)
        other.knows(one)
        one.dials(other)
        link = await one.linked(other)
        await link.send(FOLDER, b"x" * PAYLOAD_BYTES_MAX)
        await other.seen.until(lambda: other.seen.messages)
        assert len(other.seen.messages[0][2]) == PAYLOAD_BYTES_MAX


async def test_two_who_dial_at_once_have_one_link_fifty_times(pair: tuple[Node, Node]) -> None:
    """Neither ever loses a link on the way to the one that stays."""
    for _ in range(50):
        alpha, beta = (Node(node.identity) for node in pair)
        async with alpha.running(), beta.running():
            alpha.knows(beta)
            beta.knows(alpha)
            alpha.dials(beta)
            beta.dials(alpha)
            links = [await alpha.linked(beta), await beta.linked(alpha)]
            assert links[0].info.serial == links[1].info.serial
            assert links[0].info.session == links[1].info.peer_session
            assert links[0].info.dialed != links[1].info.dialed
            for link, node in zip(links, (beta, alpha), strict=True):
                await link.send(FOLDER, b"through")
                await node.seen.until(node.seen.got_message)
            assert len(alpha.seen.ups) == len(beta.seen.ups) == 1
            assert not alpha.seen.downs
            assert not beta.seen.downs


async def test_a_peer_that_comes_back_replaces_the_link_of_its_former_life(pair: tuple[Node, Node]) -> None:
    """Its host lost power: nobody was told, and the old connection looks alive for half a minute."""
    for alpha, beta in (pair, pair[::-1]):
        alpha, beta, again = Node(alpha.identity), Node(beta.identity), Node(beta.identity)
        again.boot = 7
        async with alpha.running(settings=with_settings(dead_ms=600_000)), beta.running():
            proxy = Proxy(alpha.address)
            async with proxy.running():
                alpha.knows(beta)
                beta.knows(alpha)
                beta.network.set_addresses(alpha.id, [proxy.address])
                first = await alpha.linked(beta)
                await beta.linked(alpha)
                proxy.freeze()
                async with again.running():
                    again.knows(alpha)
                    again.dials(alpha)
                    await alpha.seen.until(alpha.seen.got_second_link)
                    assert alpha.seen.downs == [(first, "replaced by a newer connection")]
                    await (await again.linked(alpha)).send(FOLDER, b"back")
                    await alpha.seen.until(alpha.seen.got_message)


async def test_of_two_processes_with_one_key_the_first_keeps_its_link_and_the_second_hears_why(
    pair: tuple[Node, Node],
) -> None:
    """A home was copied to a second machine, and both run."""
    for alpha, beta in (pair, pair[::-1]):
        alpha, beta, copy = Node(alpha.identity), Node(beta.identity), Node(beta.identity)
        copy.boot = 7
        tried, open_session = asyncio.Event(), copy.seen.open_session

        async def count(member_id: str) -> Session:
            session = await open_session(member_id)  # noqa: B023
            if session.number > 3:
                tried.set()  # noqa: B023
            return session

        copy.seen.open_session = count  # type: ignore[method-assign]
        async with alpha.running(), copy.running():
            copy.knows(alpha)
            async with beta.running():
                alpha.knows(beta)
                beta.knows(alpha)
                beta.dials(alpha)
                await beta.linked(alpha)
                first = await alpha.linked(beta)
                copy.dials(alpha)
                await copy.seen.until(lambda: copy.seen.refusals or copy.seen.ups)  # noqa: B023
                ((member, refusal),) = copy.seen.refusals
                assert (member, refusal.code) == (alpha.id, Code.COPY)
                assert f"connected from {first.info.address}" in str(refusal)
                async with asyncio.timeout(PATIENCE_S):
                    await tried.wait()
                assert len(copy.seen.refusals) == 1, "it is said once"
                assert alpha.network.link(beta.id) is first
                assert not alpha.seen.downs
            assert (await copy.linked(alpha)).info.peer_boot == (1).to_bytes(16, "big"), "it has gone"


async def test_a_link_that_died_for_one_side_alone_gives_way_to_a_new_one(pair: tuple[Node, Node]) -> None:
    """The same process dials again, because its side broke; the arbiter's side looks alive and is probed."""
    alpha, beta = pair
    async with alpha.running(settings=with_settings(dead_ms=600_000, probe_ms=100)), beta.running():
        proxy = Proxy(alpha.address)
        async with proxy.running():
            alpha.knows(beta)
            beta.knows(alpha)
            beta.network.set_addresses(alpha.id, [proxy.address])
            first = await alpha.linked(beta)
            proxy.freeze()
            beta.network.set_addresses(alpha.id, [alpha.address])
            (await beta.linked(alpha)).abort("as if the network had broken")
            await alpha.seen.until(lambda: len(alpha.seen.ups) == 2)
            assert alpha.seen.downs == [(first, "replaced by a newer connection")]
            assert (await beta.linked(alpha)).info.serial == (await alpha.linked(beta)).info.serial == 2


async def test_the_next_link_comes_up_only_when_the_last_is_known_to_be_down(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    order: list[str] = []
    let_go = asyncio.Event()
    up, down = alpha.seen.on_link_up, alpha.seen.on_link_down

    async def on_link_up(link: Link) -> None:
        order.append("up")
        await up(link)

    async def on_link_down(link: Link, reason: str) -> None:
        await asyncio.wait_for(let_go.wait(), PATIENCE_S)
        order.append("down")
        await down(link, reason)

    async with alpha.running(), beta.running():
        alpha.seen.on_link_up, alpha.seen.on_link_down = on_link_up, on_link_down  # type: ignore[method-assign]
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        (await beta.linked(alpha)).close("try again")
        try:
            await beta.seen.until(lambda: len(beta.seen.ups) == 2)
            assert order == ["up"]
        finally:
            let_go.set()
        await alpha.seen.until(lambda: len(alpha.seen.ups) == 2)
        assert order == ["up", "down", "up"]
        alpha.seen.on_link_down = down  # type: ignore[method-assign]


async def test_a_silent_peer_is_dead_after_its_time(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(settings=with_settings(dead_ms=200)), beta.running():
        proxy = Proxy(alpha.address)
        async with proxy.running():
            alpha.knows(beta)
            beta.knows(alpha)
            beta.network.set_addresses(alpha.id, [proxy.address])
            await alpha.linked(beta)
            proxy.freeze()
            await alpha.seen.until(lambda: alpha.seen.downs)
            assert alpha.seen.downs[0][1] == "no sign of life for 0.2 s"


async def test_pings_tell_the_round_trip_and_the_clocks_offset(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(settings=with_settings(ping_ms=5)), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        link = await alpha.linked(beta)
        assert await link.probe()
        assert link.rtt_ms is not None
        assert link.clock_offset_ms is not None
        assert 0 < link.rtt_ms < 5_000
        assert abs(link.clock_offset_ms) <= link.rtt_ms + 2


@pytest.mark.requirement("R17")
async def test_a_member_is_found_again_at_another_address(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        alpha.knows(beta)
        async with beta.running():
            beta.knows(alpha)
            alpha.dials(beta)
            await alpha.linked(beta)
        await alpha.seen.until(lambda: alpha.seen.downs)
        again = Node(beta.identity)
        async with again.running():
            again.knows(alpha)
            alpha.dials(again)
            await again.linked(alpha)
            state = alpha.network.dial_state(again.id)
            assert state is not None
            assert state.direct == again.address
            assert state.error == ""


@pytest.mark.requirement("R17")
async def test_new_addresses_are_tried_at_once_however_long_the_pause_is(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    settings = with_settings(dial_min_ms=600_000, dial_max_ms=600_000)
    async with alpha.running(settings=settings), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        failed = first_failure(alpha.network._remotes[beta.id])
        alpha.network.set_addresses(beta.id, [refused_port()])
        await asyncio.wait_for(failed.wait(), PATIENCE_S)
        state = alpha.network.dial_state(beta.id)
        assert state is not None
        assert state.next_attempt_ms > 100_000
        assert "onnect" in state.error
        alpha.dials(beta)
        await alpha.linked(beta)


async def test_an_address_that_never_answers_does_not_hold_up_one_that_does(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with alpha.running(), beta.running():
            alpha.knows(beta)
            beta.knows(alpha)
            alpha.network.set_addresses(beta.id, [Address(*silent.getsockname()), refused_port(), beta.address])
            await alpha.linked(beta)


@pytest.mark.requirement("R17")
async def test_a_link_is_never_made_with_another_member_at_the_address(pair: tuple[Node, Node], tmp_path: Path) -> None:
    alpha, beta = pair
    gamma = Node(make_identity(tmp_path, "gamma"))
    async with alpha.running(), beta.running(), gamma.running():
        for node, others in ((alpha, (beta, gamma)), (beta, (alpha, gamma)), (gamma, (alpha, beta))):
            node.knows(*others)
        failed = first_failure(beta.network._remotes[gamma.id])
        beta.network.set_addresses(gamma.id, [alpha.address])
        await asyncio.wait_for(failed.wait(), PATIENCE_S)
        assert "another member" in beta.network._remotes[gamma.id].state().error
        assert not alpha.seen.ups
        assert not beta.seen.ups


async def test_a_pooled_connection_is_never_used_for_another_member(pair: tuple[Node, Node], tmp_path: Path) -> None:
    """gamma took over alpha's address: a request meant for alpha finds an idle connection there, and leaves it."""
    alpha, beta = pair
    gamma = Node(make_identity(tmp_path, "gamma"))
    async with beta.running(), gamma.running():
        beta.knows(alpha, gamma)
        gamma.knows(beta)
        remotes = beta.network._remotes
        dialers = {node.id: remotes[node.id]._dialer for node in (alpha, gamma)}
        sessions = {node.id: beta.network.session(node.id) for node in (alpha, gamma)}
        assert await dialers[gamma.id].reach(sessions[gamma.id], [gamma.address]) == gamma.address
        with pytest.raises(PeerError, match="another member"):
            await dialers[alpha.id].reach(sessions[alpha.id], [gamma.address])


@pytest.mark.requirement("D6")
async def test_i8_who_sends_faster_than_the_other_takes_waits(pair: tuple[Node, Node]) -> None:
    """And what is held in between is bounded, nothing is lost, and the link does not die of it."""
    alpha, beta = pair
    settings = with_settings(dead_ms=300, send_queue_bytes=1_048_576)
    async with alpha.running(settings=settings), beta.running(settings=settings):
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        link = await beta.linked(alpha)
        alpha.seen.open.clear()
        sent = 0
        stuck = False
        while not stuck:
            try:
                async with asyncio.timeout(1.0):  # three times as long as a dead link lives
                    await link.send(FOLDER, sent.to_bytes(4, "big") + bytes(100_000))
                sent += 1
            except TimeoutError:
                stuck = True
            assert sent < 500, "50 MB were taken that nobody read"
        assert link.queued_bytes <= 1_048_576
        assert not link.try_send(FOLDER, bytes(100_000))
        assert not beta.seen.downs
        alpha.seen.open.set()
        await alpha.seen.until(lambda: len(alpha.seen.messages) >= sent)
        numbers = [int.from_bytes(payload[:4], "big") for _, _, payload in alpha.seen.messages]
        assert numbers[:sent] == list(range(sent))


async def test_sending_on_a_link_that_ends_says_so(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        link = await beta.linked(alpha)
        link.close("enough")
        with pytest.raises(LinkClosedError, match="enough"):
            await link.send(FOLDER, b"more")
        with pytest.raises(LinkClosedError, match="enough"):
            link.try_send(FOLDER, b"more")


async def test_i10_a_bad_message_ends_its_link_and_no_other(pair: tuple[Node, Node], tmp_path: Path) -> None:
    alpha, beta = pair
    gamma = Node(make_identity(tmp_path, "gamma"))

    def react(link: Link, channel: bytes, payload: bytes) -> None:
        if payload == b"bad":
            raise ProtocolError("a message is bad")

    async with alpha.running(), beta.running(), gamma.running():
        alpha.knows(beta, gamma)
        alpha.seen.react = react
        for node in (beta, gamma):
            node.knows(alpha)
            node.dials(alpha)
            await node.linked(alpha)
        await alpha.linked(beta)
        await alpha.linked(gamma)
        await (await beta.linked(alpha)).send(FOLDER, b"bad")
        await alpha.seen.until(lambda: alpha.seen.downs)
        await beta.seen.until(lambda: beta.seen.downs)
        assert alpha.seen.downs[0][1] == "a message is bad"
        assert beta.seen.downs[0][1] == "closed by the peer: a message is bad"
        assert [link.member_id for link, _ in alpha.seen.downs] == [beta.id]
        await (await gamma.linked(alpha)).send(FOLDER, b"good")
        await alpha.seen.until(lambda: (gamma.id, FOLDER, b"good") in alpha.seen.messages)


async def test_a_bug_in_a_handler_ends_the_network_with_its_traceback(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair

    def react(link: Link, channel: bytes, payload: bytes) -> None:
        raise ZeroDivisionError("a bug")

    async def meet_a_bug() -> None:
        async with alpha.running():
            alpha.knows(beta)
            beta.knows(alpha)
            alpha.seen.react = react
            beta.dials(alpha)
            await (await beta.linked(alpha)).send(FOLDER, b"x")
            await asyncio.wait_for(asyncio.Event().wait(), PATIENCE_S)

    async with beta.running():
        with pytest.raises(ExceptionGroup) as caught:
            await meet_a_bug()
        assert caught.group_contains(ZeroDivisionError, match="a bug")


async def test_stopping_leaves_no_task_behind(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    before = asyncio.all_tasks()
    async with alpha.running(), beta.running():
        alpha.knows(beta)
        beta.knows(alpha)
        alpha.dials(beta)
        beta.dials(alpha)
        await alpha.linked(beta)
        await beta.linked(alpha)
        beta.network.set_addresses(alpha.id, [refused_port()])
    assert asyncio.all_tasks() == before
    assert len(alpha.seen.downs) == len(beta.seen.downs) == 1


async def test_who_comes_in_the_moment_of_the_stop_is_not_accepted(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    async with alpha.running():
        await asyncio.sleep(0)  # it accepts now
        address = alpha.address
        with socket.create_connection((address.host, address.port)):  # done by the kernel
            await asyncio.create_task(alpha.network._listener.stop())  # in the turn in which the loop hears of it
    assert told == []


async def test_a_port_that_is_taken_is_the_operators_to_mend(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running():
        with pytest.raises(OperatorError, match=r"cannot listen at 127\.0\.0\.1:\d+: Address already in use"):
            async with beta.running(settings=with_settings(listen=alpha.address)):
                pass
        with pytest.raises(OperatorError, match="cannot listen"):
            async with beta.running(settings=with_settings(listen=Address("host.invalid", 1))):
                pass
    assert LOOPBACK.port == 0


async def test_a_certificate_that_is_none_makes_one_member_unreachable_and_nobody_else(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(), beta.running():
        unknown = alpha.network.set_members({beta.id: beta.identity.certificate_der, "cd" * 32: b"scribble"})
        assert list(unknown) == ["cd" * 32]
        assert alpha.network.set_members({"cd" * 32: beta.identity.certificate_der}) != {}
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        await alpha.linked(beta)


async def test_members_of_another_group_refuse_each_other_and_say_so(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    async with alpha.running(), beta.running(group=b"h" * 16):
        alpha.knows(beta)
        beta.knows(alpha)
        beta.dials(alpha)
        await beta.seen.until(lambda: beta.seen.refusals)
        member_id, refusal = beta.seen.refusals[0]
        assert (member_id, refusal.code) == (alpha.id, Code.GROUP)
        assert "this is group 67676767, not 68686868" in str(refusal)
        assert not alpha.seen.ups


async def test_a_member_listens_where_it_did_before_unless_somebody_else_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node, settings = Node(make_identity(tmp_path, "alpha")), with_settings(port_before=port)
        async with node.running(settings=settings):
            assert node.address.port not in (0, port)
    async with node.running(settings=settings):
        assert node.address.port == port
