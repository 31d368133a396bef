"""What becomes of messages for a replica that does not run."""

from __future__ import annotations

from typing import Any

import pytest

from replicad.core.messages import Fence, FenceReply, decode_message, encode_message
from replicad.daemon.router import Router

OWN, PEER, STRANGER = "aa" * 32, "bb" * 32, "cc" * 32
FOLDER = b"f" * 16
FENCE = Fence(fence=b"0123456789abcdef", seen=[], budget_ms=1_000)


class FakeLink:
    def __init__(self, member_id: str) -> None:
        self.member_id = member_id
        self.sent: list[Any] = []

    def try_send(self, channel: bytes, payload: bytes) -> bool:
        assert channel == FOLDER
        self.sent.append(decode_message(payload))
        return True


class FakeDriver:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def link_up(self, link: Any) -> None: ...

    def received(self, link: Any, event: Any) -> None:
        self.heard.append(event.message)


async def router_with(link: Any) -> Router:
    async def no_session(member_id: str) -> Any:
        raise NotImplementedError

    made = Router(OWN, no_session, lambda member: False, lambda link, why: None, lambda member, refusal: None)
    await made.on_link_up(link)
    return made


async def test_who_waits_for_a_folder_that_has_stopped_is_told_why() -> None:
    link = FakeLink(PEER)
    router = await router_with(link)
    router.stopped(FOLDER, {OWN, PEER}, "the disk failed")
    await router.on_message(link, FOLDER, encode_message(FENCE))  # type: ignore[arg-type]
    (reply,) = link.sent
    assert isinstance(reply, FenceReply)
    assert reply.fence == FENCE.fence
    assert reply.failed == [(bytes.fromhex(OWN), "the folder has stopped there: the disk failed")]
    assert not reply.members, "it has not passed the fence"


@pytest.mark.parametrize("peer", [PEER, STRANGER])
async def test_a_fence_for_a_folder_that_comes_is_kept_for_it_and_strangers_are_told_nothing(peer: str) -> None:
    link = FakeLink(peer)
    router = await router_with(link)
    if peer == STRANGER:
        router.stopped(FOLDER, {OWN, PEER}, "the disk failed")
    await router.on_message(link, FOLDER, encode_message(FENCE))  # type: ignore[arg-type]
    assert link.sent == []
    driver = FakeDriver()
    router.add(FOLDER, driver, {OWN, PEER})  # type: ignore[arg-type]
    assert driver.heard == ([FENCE] if peer == PEER else [])


async def test_a_folder_that_runs_again_answers_for_itself() -> None:
    link = FakeLink(PEER)
    router = await router_with(link)
    router.stopped(FOLDER, {OWN, PEER}, "the disk failed")
    router.add(FOLDER, FakeDriver(), {OWN, PEER})  # type: ignore[arg-type]
    router.remove(FOLDER)
    await router.on_message(link, FOLDER, encode_message(FENCE))  # type: ignore[arg-type]
    assert link.sent == []
