"""What the desk where members join lets pass. The joiner is played by hand, so that it can cheat."""

import asyncio
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from replicad.core.naming import group_id_from_secret, join_key_from_secret
from replicad.net.identity import Identity
from replicad.net.join import JOINS_AT_ONCE_MAX, JoinDesk, Joiner
from replicad.net.limits import FAILURES_PER_SOURCE
from replicad.net.proof import (
    BY_SECRET,
    BY_TOKEN,
    JOIN_LIFE_MS,
    Answer,
    Challenge,
    Hello,
    Proof,
    joiner_proof,
    joiner_statement,
    server_proof,
    transcript,
)
from replicad.net.refusal import Code, Refused
from replicad.net.token import new_invitation, token_id, token_key
from tests.net.certificates import make_identity
from tests.net.invitations import MemoryInvitations

GROUP = group_id_from_secret(b"hunter2 hunter2", "demo")
SECRET_KEY = join_key_from_secret(b"hunter2 hunter2", "demo")
TOKEN_SECRET = b"t" * 16


class Group:
    """The inviter's side."""

    def __init__(self, identity: Identity, *, secret_key: bytes | None = SECRET_KEY, uses: int = 1) -> None:
        self.now_ms = 1_000_000
        self.admitted: list[Joiner] = []
        self.refuse: Refused | None = None
        self.invitations = MemoryInvitations(new_invitation(TOKEN_SECRET, self.now_ms + 3_600_000, uses))
        self.desk = JoinDesk(
            identity,
            GROUP,
            invitations=self.invitations,
            admit=self.admit,
            now_ms=lambda: self.now_ms,
            secret_key=secret_key,
        )

    async def admit(self, joiner: Joiner) -> bytes:
        if self.refuse:
            raise self.refuse
        self.admitted.append(joiner)
        return b"welcome"

    @property
    def uses(self) -> int:
        return len(self.invitations.books[token_id(TOKEN_SECRET)].used_by)


@dataclass
class Player:
    """A joiner; every field may be wrong."""

    identity: Identity
    certificate: bytes
    kind: int = BY_TOKEN
    token: bytes = token_id(TOKEN_SECRET)
    key: bytes = token_key(TOKEN_SECRET)
    payload: bytes = b"I am beta"
    source: str = "192.0.2.1"

    def hello(self, versions: tuple[int, ...] = (1,)) -> bytes:
        hello = Hello(list(versions), self.kind, self.token, self.certificate, secrets.token_bytes(32))
        return msgspec.msgpack.encode(hello)

    def about(self, hello: bytes, challenge: Challenge) -> bytes:
        return transcript(hello, (challenge.version, challenge.certificate, challenge.nonce), GROUP)

    def proof(self, hello: bytes, challenge: Challenge) -> Proof:
        about = self.about(hello, challenge)
        signature = self.identity.sign(joiner_statement(about, self.payload))
        return Proof(hello, challenge.nonce, joiner_proof(self.key, about, self.payload), signature, self.payload)

    async def meet(self, group: Group) -> tuple[bytes, Challenge]:
        hello = self.hello()
        return hello, msgspec.msgpack.decode(await group.desk.hello(hello, self.source), type=Challenge)

    async def prove(self, group: Group, proof: Proof) -> Answer:
        return msgspec.msgpack.decode(await group.desk.proof(msgspec.msgpack.encode(proof), self.source), type=Answer)

    async def join(self, group: Group) -> Answer:
        hello, challenge = await self.meet(group)
        return await self.prove(group, self.proof(hello, challenge))


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(make_identity(tmp_path, "alpha"))


@pytest.fixture
def beta(tmp_path: Path) -> Player:
    identity = make_identity(tmp_path, "beta")
    return Player(identity, identity.certificate_der)


async def test_a_token_lets_a_new_member_in(group: Group, beta: Player) -> None:
    hello, challenge = await beta.meet(group)
    assert challenge.proof == server_proof(beta.key, beta.about(hello, challenge)), "the server proves first"
    assert group.uses == 0
    answer = await beta.prove(group, beta.proof(hello, challenge))
    assert (answer.group_id, answer.payload) == (GROUP, b"welcome")
    assert group.uses == 1
    assert group.admitted == [
        Joiner(beta.identity.member_id, beta.certificate, token_id(TOKEN_SECRET), "192.0.2.1", b"I am beta")
    ]


async def test_the_declared_secret_lets_any_number_in(group: Group, tmp_path: Path) -> None:
    for name in ("beta", "gamma", "delta"):
        identity = make_identity(tmp_path, name)
        player = Player(identity, identity.certificate_der, kind=BY_SECRET, token=b"", key=SECRET_KEY)
        assert (await player.join(group)).payload == b"welcome"
    assert [joiner.token_id for joiner in group.admitted] == [None, None, None]
    assert group.uses == 0


async def test_a_token_for_one_refuses_the_second(group: Group, beta: Player, tmp_path: Path) -> None:
    await beta.join(group)
    gamma = make_identity(tmp_path, "gamma")
    with pytest.raises(Refused, match="has been used"):
        await Player(gamma, gamma.certificate_der).join(group)
    assert (await beta.join(group)).payload == b"welcome", "who lost the answer may ask again"
    assert group.uses == 1


async def test_of_two_that_prove_one_token_at_once_one_is_refused(group: Group, beta: Player, tmp_path: Path) -> None:
    gamma = make_identity(tmp_path, "gamma")
    players = [beta, Player(gamma, gamma.certificate_der)]
    proofs = [(player, player.proof(*await player.meet(group))) for player in players]
    results = await asyncio.gather(*(player.prove(group, proof) for player, proof in proofs), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Answer", "Refused"]
    assert len(group.admitted) == group.uses == 1


async def test_expired_revoked_and_unknown_tokens_are_refused_with_their_reason(group: Group, beta: Player) -> None:
    book = group.invitations.books[token_id(TOKEN_SECRET)]
    with pytest.raises(Refused, match="not known here"):
        await replace(beta, token=b"?" * 16).join(group)
    group.invitations.books[book.token_id] = replace(book, revoked=True)
    with pytest.raises(Refused, match="revoked"):
        await beta.join(group)
    group.invitations.books[book.token_id] = replace(book, expires_ms=group.now_ms)
    with pytest.raises(Refused, match="expired"):
        await beta.join(group)


async def test_a_use_is_consumed_only_by_a_proof(group: Group, beta: Player) -> None:
    for cheat in (replace(beta, key=b"k" * 32), replace(beta, kind=BY_SECRET, token=b"", key=b"k" * 32)):
        with pytest.raises(Refused, match="was not proved"):
            await cheat.join(group)
    assert group.uses == 0
    assert group.admitted == []


async def test_a_certificate_without_its_key_is_refused(group: Group, beta: Player, tmp_path: Path) -> None:
    """Else anyone with a token could enter another's certificate, and lock out who holds its key."""
    stolen = make_identity(tmp_path, "victim").certificate_der
    with pytest.raises(Refused, match="key was not proved"):
        await replace(beta, certificate=stolen).join(group)
    assert group.uses == 0


async def test_nobody_in_the_middle_can_pass_a_proof_on(group: Group, beta: Player, tmp_path: Path) -> None:
    """The joiner saw the middleman's certificate in TLS, whatever certificate the passed challenge names."""
    hello, challenge = await beta.meet(group)
    seen = msgspec.structs.replace(challenge, certificate=make_identity(tmp_path, "mallory").certificate_der)
    assert challenge.proof != server_proof(beta.key, beta.about(hello, seen))
    with pytest.raises(Refused, match="was not proved"):
        await beta.prove(group, beta.proof(hello, seen))


async def test_a_servers_proof_is_no_joiners_proof(group: Group, beta: Player) -> None:
    hello, challenge = await beta.meet(group)
    proof = msgspec.structs.replace(beta.proof(hello, challenge), proof=challenge.proof)
    with pytest.raises(Refused, match="was not proved"):
        await beta.prove(group, proof)


async def test_what_was_proved_cannot_be_changed_afterwards(group: Group, beta: Player, tmp_path: Path) -> None:
    hello, challenge = await beta.meet(group)
    proof = beta.proof(hello, challenge)
    for changed in (
        msgspec.structs.replace(proof, payload=b"I am gamma"),
        msgspec.structs.replace(proof, hello=beta.hello()),
        msgspec.structs.replace(proof, server_nonce=bytes([proof.server_nonce[0] ^ 1]) + proof.server_nonce[1:]),
        msgspec.structs.replace(proof, signature=bytes(64)),
    ):
        with pytest.raises(Refused):
            await beta.prove(group, changed)
    assert group.uses == 0


async def test_a_nonce_is_good_for_a_minute_and_one_process(group: Group, beta: Player, tmp_path: Path) -> None:
    hello, challenge = await beta.meet(group)
    proof = beta.proof(hello, challenge)
    group.now_ms += JOIN_LIFE_MS + 1
    with pytest.raises(Refused, match="begin again"):
        await beta.prove(group, proof)
    group.now_ms -= JOIN_LIFE_MS
    restarted = Group(make_identity(tmp_path, "again"))
    with pytest.raises(Refused, match="begin again"):
        await beta.prove(restarted, proof)
    await beta.prove(group, proof)


async def test_a_removed_member_does_not_come_back_with_the_secret(group: Group, beta: Player) -> None:
    group.refuse = Refused(Code.REMOVED, "this member was removed from the group")
    with pytest.raises(Refused) as caught:
        await replace(beta, kind=BY_SECRET, token=b"", key=SECRET_KEY).join(group)
    assert caught.value.code == Code.REMOVED


async def test_a_group_without_a_secret_is_joined_by_token_alone(tmp_path: Path, beta: Player) -> None:
    group = Group(make_identity(tmp_path, "alpha"), secret_key=None)
    with pytest.raises(Refused, match="join it with a token"):
        await replace(beta, kind=BY_SECRET, token=b"", key=SECRET_KEY).join(group)
    assert (await beta.join(group)).payload == b"welcome"


async def test_an_unknown_way_and_an_unknown_version_are_refused_with_their_reason(group: Group, beta: Player) -> None:
    with pytest.raises(Refused, match="way of joining"):
        await replace(beta, kind=3).meet(group)
    with pytest.raises(Refused, match="upgrade the older"):
        await group.desk.hello(beta.hello(versions=(2, 3)), "192.0.2.1")
    assert await group.desk.hello(beta.hello(versions=(1, 2)), "192.0.2.1")


async def test_a_member_does_not_join_itself(tmp_path: Path) -> None:
    identity = make_identity(tmp_path, "alpha")
    with pytest.raises(Refused, match="the member itself"):
        await Player(identity, identity.certificate_der).meet(Group(identity))


async def test_a_certificate_that_is_none_is_refused(group: Group, beta: Player) -> None:
    with pytest.raises(Refused, match="certificate"):
        await replace(beta, certificate=b"scribble").meet(group)


async def test_who_fails_too_often_must_wait_though_the_next_try_is_right(group: Group, beta: Player) -> None:
    for _ in range(FAILURES_PER_SOURCE):
        with pytest.raises(Refused, match="was not proved"):
            await replace(beta, key=b"k" * 32).join(group)
    with pytest.raises(Refused) as caught:
        await beta.join(group)
    assert caught.value.code == Code.LIMIT
    assert (await replace(beta, source="192.0.2.2").join(group)).payload == b"welcome"


async def test_joins_at_once_are_limited(tmp_path: Path) -> None:
    group = Group(make_identity(tmp_path, "alpha"), uses=100)
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    async def admit(joiner: Joiner) -> bytes:
        entered.release()
        await leave.wait()
        return b"welcome"

    group.desk._admit = admit
    players = [
        Player(identity, identity.certificate_der, source=f"192.0.2.{number}")
        for number in range(JOINS_AT_ONCE_MAX + 1)
        for identity in [make_identity(tmp_path, f"joiner-{number}")]
    ]
    async with asyncio.TaskGroup() as tasks:
        for player in players[:-1]:
            tasks.create_task(player.join(group))
            await entered.acquire()
        with pytest.raises(Refused) as caught:
            await players[-1].join(group)
        assert caught.value.code == Code.BUSY
        leave.set()
    assert (await players[-1].join(group)).payload == b"welcome"
