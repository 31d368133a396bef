"""Members over real sockets: links come up, carry messages, and end as they should."""

from pathlib import Path

from tests.net.nodes import FOLDER, two_nodes


async def test_two_members_have_a_link_and_talk(tmp_path: Path) -> None:
    alpha, beta = two_nodes(tmp_path)
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
