"""Content between members: small files, manifests, ranges; by our request, and brought by the other."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from replicad.core.ids import FolderId, MemberId, Uid
from replicad.errors import PeerError
from replicad.net import content_server
from replicad.net.client import UnreachableError, new_session
from replicad.net.content_server import ANSWERS_PER_MEMBER_MAX
from replicad.net.content_wire import FILES_MAX, PIECE_BYTES_MAX, SMALL_FILE_BYTES_MAX, SmallFile
from replicad.net.refusal import Code, Refused
from replicad.net.tls import member_context
from replicad.net.wire import Deny, Want
from tests.net.nodes import FOLDER, PATIENCE_S, Node, refused_port, two_nodes
from tests.net.rawpeer import RawPeer, raw_peer
from tests.net.test_stream import join_as

UID = b"u" * 16
DIGEST = b"d" * 32


class Shelf:
    """A source in memory: the content of a uid. Ranges come of endless, numbered bytes."""

    def __init__(self) -> None:
        self.small: dict[Uid, bytes] = {}
        self.pages: dict[bytes | None, bytes] = {}
        self.size = 0
        self.members: set[MemberId] | None = None
        self.reads = 0
        self.lost_at: int | None = None
        self.gate = threading.Event()
        self.gate.set()

    def may_read(self, member_id: MemberId, folder: FolderId) -> bool:
        return folder == FOLDER and (self.members is None or member_id in self.members)

    def open_small(self, folder: FolderId, uid: Uid, digest: bytes) -> bytes | None:
        return self.small.get(uid)

    def manifest(self, folder: FolderId, uid: Uid, digest: bytes, page: bytes | None) -> bytes | None:
        return self.pages.get(page)

    def read_range(self, folder: FolderId, uid: Uid, digest: bytes, offset: int, length: int) -> bytes | None:
        self.reads += 1
        self.gate.wait(10)
        if offset + length > self.size or (self.lost_at is not None and offset + length > self.lost_at):
            return None
        return pattern(offset, length)


def pattern(offset: int, length: int) -> bytes:
    first = offset // 8
    words = b"".join(number.to_bytes(8, "big") for number in range(first, first + length // 8 + 2))
    return words[offset % 8 : offset % 8 + length]


def uid(number: int) -> Uid:
    return number.to_bytes(16, "big")


class Pair:
    """`asker` asks `server` for what is on the `shelf`."""

    def __init__(self, asker: Node, server: Node, shelf: Shelf) -> None:
        self.asker = asker
        self.server = server
        self.shelf = shelf

    async def files(self, items: list[SmallFile]) -> list[bytes | None]:
        answer = self.asker.network.content.files(self.server.id, FOLDER, items)
        async with aclosing(answer):
            return [None if body is None else bytes(body) async for _, body in answer]

    async def ranges(self, ranges: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
        answer = self.asker.network.content.ranges(self.server.id, FOLDER, UID, DIGEST, ranges)
        async with aclosing(answer):
            return [(offset, bytes(data)) async for offset, data in answer]


@asynccontextmanager
async def directly(directory: Path) -> AsyncIterator[Pair]:
    """The asker can dial the server."""
    server, asker = two_nodes(directory)
    shelf = Shelf()
    async with server.running(source=shelf), asker.running():
        server.knows(asker)
        asker.knows(server)
        asker.dials(server)
        await asker.linked(server)
        yield Pair(asker, server, shelf)


@asynccontextmanager
async def brought(directory: Path) -> AsyncIterator[Pair]:
    """Only the server can dial the asker."""
    server, asker = two_nodes(directory)
    shelf = Shelf()
    async with server.running(source=shelf), asker.running():
        server.knows(asker)
        asker.knows(server)
        asker.network.set_addresses(server.id, [refused_port()])
        server.dials(asker)
        await asker.linked(server)
        yield Pair(asker, server, shelf)
        state = asker.network.dial_state(server.id)
        assert state is None or state.direct is None, "it was dialed after all"


WAYS = pytest.mark.parametrize("way", [directly, brought], ids=["directly", "brought"])


@WAYS
async def test_small_files_come_in_one_batch_and_those_that_are_gone_are_told(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        bodies = [bytes([number % 251]) * (number * 131 % SMALL_FILE_BYTES_MAX) for number in range(FILES_MAX)]
        pair.shelf.small = {uid(number): body for number, body in enumerate(bodies) if number % 7}
        pair.shelf.small[uid(3)] += b"it has grown since"
        items = [SmallFile(uid(number), DIGEST, len(body)) for number, body in enumerate(bodies)]
        got = await pair.files(items)
        assert got == [body if number % 7 and number != 3 else None for number, body in enumerate(bodies)]


@WAYS
async def test_empty_files_and_empty_requests_are_answered(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.small = {uid(1): b""}
        assert await pair.files([SmallFile(uid(1), DIGEST, 0)]) == [b""]
        assert await pair.files([]) == []


@WAYS
async def test_a_manifests_top_and_pages_come_whole(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        big = bytes(range(256)) * (3 * PIECE_BYTES_MAX // 256) + b"end"
        pair.shelf.pages = {None: b"top", b"1" * 16: big, b"2" * 16: b""}
        ask = pair.asker.network.content.manifest
        assert await ask(pair.server.id, FOLDER, UID, DIGEST) == [b"top"]
        assert await ask(pair.server.id, FOLDER, UID, DIGEST, [b"1" * 16, b"2" * 16]) == [big, b""]
        with pytest.raises(Refused) as caught:
            await ask(pair.server.id, FOLDER, UID, DIGEST, [b"1" * 16, b"3" * 16])
        assert caught.value.code == Code.GONE


@WAYS
async def test_ranges_come_in_pieces_with_their_offsets(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size = 10 * PIECE_BYTES_MAX
        asked = [(5, 3), (PIECE_BYTES_MAX - 1, 2 * PIECE_BYTES_MAX + 7), (9 * PIECE_BYTES_MAX, 100_000), (0, 1)]
        pieces = await pair.ranges(asked)
        assert all(data == pattern(offset, len(data)) for offset, data in pieces)
        assert all(len(data) <= PIECE_BYTES_MAX for _, data in pieces)
        for begin, length in asked:
            position = begin
            while position < begin + length:
                offset, data = pieces.pop(0)
                assert offset == position
                assert data
                position += len(data)
            assert position == begin + length
        assert pieces == []


@WAYS
async def test_content_that_is_lost_while_it_is_read_is_refused_late(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size, pair.shelf.lost_at = 10 * PIECE_BYTES_MAX, 2 * PIECE_BYTES_MAX
        answer = pair.asker.network.content.ranges(pair.server.id, FOLDER, UID, DIGEST, [(0, 5 * PIECE_BYTES_MAX)])
        async with aclosing(answer):
            position = 0
            while position < 2 * PIECE_BYTES_MAX:
                offset, data = await anext(answer)
                assert offset == position
                position += len(data)
            with pytest.raises(Refused) as caught:
                await anext(answer)
        assert caught.value.code == Code.GONE


@WAYS
async def test_i11_a_folder_that_is_not_replicated_to_the_asker_is_refused(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.members = set()
        pair.shelf.small = {uid(1): b"secret"}
        with pytest.raises(Refused) as caught:
            await pair.files([SmallFile(uid(1), DIGEST, 6)])
        assert caught.value.code == Code.FOLDER


@WAYS
async def test_i8_who_reads_slowly_is_sent_no_more_than_fits_in_between(tmp_path: Path, way: object) -> None:
    """What is read from the disk stays within a bound, however much was asked for; the rest comes when it is taken."""
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size = 2**40
        answer = pair.asker.network.content.ranges(pair.server.id, FOLDER, UID, DIGEST, [(0, 2**40)])
        async with aclosing(answer):
            await anext(answer)
            before = -1
            while pair.shelf.reads != before:  # until nothing is read any more
                before = pair.shelf.reads
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.3)
            assert before < 40, "40 MiB for one that has taken one"
            for _ in range(60):
                await anext(answer)
            assert pair.shelf.reads > before
        assert pair.server.network.link(pair.asker.id), "the link goes on"


@WAYS
async def test_who_takes_nothing_for_long_is_cut_off(
    tmp_path: Path, way: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds one of its places and two batches in memory, else for ever."""
    monkeypatch.setattr(content_server, "SILENCE_S", 0.2)
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size = 2**40
        desk = pair.server.network._content_desk
        assert desk is not None
        answer = pair.asker.network.content.ranges(pair.server.id, FOLDER, UID, DIGEST, [(0, 2**40)])
        async with aclosing(answer):
            await anext(answer)
            assert desk.answers == 1
            async with asyncio.timeout(PATIENCE_S):
                await desk.idle.wait()

            async def take_all() -> None:
                async for _ in answer:
                    pass

            with pytest.raises(UnreachableError):
                await take_all()


@WAYS
async def test_an_answer_that_is_left_early_ends_on_both_sides(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size = 2**40
        desk = pair.server.network._content_desk
        assert desk is not None
        for _ in range(2 * ANSWERS_PER_MEMBER_MAX):  # places that were not given back would run out
            answer = pair.asker.network.content.ranges(pair.server.id, FOLDER, UID, DIGEST, [(0, 2**40)])
            async with aclosing(answer):
                await anext(answer)
        pair.shelf.small = {uid(1): b"x"}
        assert await pair.files([SmallFile(uid(1), DIGEST, 1)]) == [b"x"]


@WAYS
async def test_more_requests_than_there_are_places_wait_their_turn(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.small = {uid(number): str(number).encode() for number in range(100)}
        requests = [pair.files([SmallFile(uid(number), DIGEST, len(str(number)))]) for number in range(100)]
        assert await asyncio.gather(*requests) == [[str(number).encode()] for number in range(100)]


async def test_a_member_that_asks_too_much_at_once_is_refused(tmp_path: Path) -> None:
    async with directly(tmp_path) as pair:
        desk = pair.server.network._content_desk
        assert desk is not None
        body = b"\x92" + b"\xc4\x10" + FOLDER + b"\x90"
        places = [desk.answering(pair.asker.id, "files", body) for _ in range(ANSWERS_PER_MEMBER_MAX)]
        for place in places:
            place.__enter__()
        with pytest.raises(Refused) as caught:
            await pair.files([])
        assert caught.value.code == Code.BUSY
        places[0].__exit__(None, None, None)
        assert await pair.files([]) == []
        for place in places[1:]:
            place.__exit__(None, None, None)


@WAYS
async def test_a_member_that_goes_away_ends_the_transfer(tmp_path: Path, way: object) -> None:
    async with way(tmp_path) as pair:  # type: ignore[operator]
        pair.shelf.size = 2**40
        answer = pair.asker.network.content.ranges(pair.server.id, FOLDER, UID, DIGEST, [(0, 2**40)])

        async def take_all() -> None:
            async with aclosing(answer):
                async for _ in answer:
                    pair.server.network.set_members({})

        with pytest.raises(UnreachableError):
            await take_all()


async def test_who_is_no_member_and_who_cannot_be_reached_cannot_be_asked(tmp_path: Path) -> None:
    server, asker = two_nodes(tmp_path)
    async with asker.running():
        with pytest.raises(UnreachableError):
            await anext(asker.network.content.files(server.id, FOLDER, []))
        asker.knows(server)
        asker.network.set_addresses(server.id, [refused_port()])
        with pytest.raises(UnreachableError, match="no way"):
            await anext(asker.network.content.files(server.id, FOLDER, []))


async def test_a_member_that_moved_is_asked_over_the_link_at_once(tmp_path: Path) -> None:
    """It could be dialed, and cannot any more; it has dialed us."""
    server, asker = two_nodes(tmp_path)
    shelf = Shelf()
    shelf.small = {uid(1): b"x"}
    async with server.running(source=shelf), asker.running():
        server.knows(asker)
        asker.knows(server)
        server.dials(asker)
        await asker.linked(server)
        gone = refused_port()
        asker.network.set_addresses(server.id, [gone])
        asker.network._remotes[server.id]._direct = gone
        assert await Pair(asker, server, shelf).files([SmallFile(uid(1), DIGEST, 1)]) == [b"x"]
        state = asker.network.dial_state(server.id)
        assert state is not None
        assert state.direct is None


async def test_a_member_that_turns_out_to_be_dialable_is_asked_directly(tmp_path: Path) -> None:
    server, asker = two_nodes(tmp_path)
    shelf = Shelf()
    shelf.small = {uid(1): b"x"}
    async with server.running(source=shelf), asker.running():
        server.knows(asker)
        asker.knows(server)
        server.dials(asker)
        link = await asker.linked(server)
        asker.dials(server)
        assert await Pair(asker, server, shelf).files([SmallFile(uid(1), DIGEST, 1)]) == [b"x"]
        reaching = asker.network._remotes[server.id]._reaching
        assert reaching is not None
        await reaching
        assert await asker.network.direct(server.id) == server.address
        assert asker.network.link(server.id) is link


async def test_an_answer_that_nobody_waits_for_is_refused(tmp_path: Path) -> None:
    server, asker = two_nodes(tmp_path)
    async with server.running(), asker.running():
        server.knows(asker)
        asker.knows(server)
        asker.dials(server)
        await asker.linked(server)
        session = asker.network.session(server.id)
        url = f"https://{server.address}/v1/content/answer/1"
        async with session.post(url, data=b"unasked", server_hostname="replicad") as answer:
            assert answer.status == 404


async def hear_want(peer: RawPeer) -> Want:
    while not isinstance(want := await peer.hear(), Want):
        pass
    return want


def ask(asker: Node, server: Node) -> asyncio.Future[tuple[int, bytes | bytearray | None]]:
    return asyncio.ensure_future(anext(asker.network.content.files(server.id, FOLDER, [SmallFile(UID, DIGEST, 1)])))


async def test_bytes_that_are_no_answer_are_the_peers_fault(tmp_path: Path) -> None:
    """A member brings something that was not asked for."""
    server, asker = two_nodes(tmp_path)
    async with asker.running():
        asker.knows(server)
        async with raw_peer(server.identity, asker) as peer:
            await join_as(peer, asker)
            request = ask(asker, server)
            want = await hear_want(peer)
            async with new_session(member_context(server.identity, asker.identity.certificate_der)) as session:
                url = f"https://{asker.address}/v1/content/answer/{want.request_id}"
                with pytest.raises(aiohttp.ClientError):
                    await session.post(url, data=b"\xff" * 100, server_hostname="replicad")
            with pytest.raises(PeerError, match="as it was asked for"):
                await request


async def test_a_request_that_is_denied_over_the_link_is_refused(tmp_path: Path) -> None:
    server, asker = two_nodes(tmp_path)
    async with asker.running():
        asker.knows(server)
        async with raw_peer(server.identity, asker) as peer:
            await join_as(peer, asker)
            request = ask(asker, server)
            await peer.say(Deny((await hear_want(peer)).request_id, "busy", "too much to do"))
            with pytest.raises(Refused, match="too much to do"):
                await request


async def test_a_link_that_ends_takes_its_requests_with_it(tmp_path: Path) -> None:
    server, asker = two_nodes(tmp_path)
    async with asker.running():
        asker.knows(server)
        async with raw_peer(server.identity, asker) as peer:
            await join_as(peer, asker)
            request = ask(asker, server)
            await hear_want(peer)
        with pytest.raises(UnreachableError, match="the link ended"):
            await request
