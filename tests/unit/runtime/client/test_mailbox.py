from types import SimpleNamespace
from typing import cast

import pytest

from runtime.client.mailbox import Mailboxes
from runtime.errors import NoAnswerError, PeerLostError, ServerFullError, SessionError, WireError
from runtime.wire.connection import Connection
from runtime.wire.messages import Close, Failed, Hop, Opened, Tokens

KEY = bytes(16)
ROUTE = (Hop("first", 0, 1), Hop("middle", 1, 2), Hop("last", 2, 3))


def from_peer(peer_id: str) -> Connection:
    return cast("Connection", SimpleNamespace(peer=SimpleNamespace(peer_id=peer_id), name=peer_id))


@pytest.fixture
def mailboxes() -> Mailboxes:
    return Mailboxes()


async def test_answers_come_from_either_end_of_the_route(mailboxes: Mailboxes) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    await mailboxes.handle(from_peer("last"), Opened(KEY, direct=True), bytearray())
    await mailboxes.handle(from_peer("first"), Tokens(KEY, 3, (7,)), bytearray())
    assert (await mailbox.answer(Opened, 1, "it")).direct
    assert (await mailbox.answer(Tokens, 1, "it")).ids == (7,)


@pytest.mark.parametrize("peer", ["middle", "stranger"])
async def test_nobody_else_answers_for_a_session(mailboxes: Mailboxes, peer: str) -> None:
    mailboxes.add(KEY, ROUTE)
    with pytest.raises(WireError, match="no end"):
        await mailboxes.handle(from_peer(peer), Tokens(KEY, 3, (7,)), bytearray())


async def test_only_answers_are_taken(mailboxes: Mailboxes) -> None:
    with pytest.raises(WireError, match="unexpected message 'Close'"):
        await mailboxes.handle(from_peer("first"), Close(KEY), bytearray())


async def test_a_stages_failure_is_raised_as_what_it_was(mailboxes: Mailboxes) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    failed = Failed(KEY, "ServerFullError", "no room", 2, "middle")
    await mailboxes.handle(from_peer("first"), failed, bytearray())
    with pytest.raises(ServerFullError, match="stage 2: no room") as caught:
        await mailbox.answer(Tokens, 1, "it")
    assert caught.value.peer_id == "middle"


@pytest.mark.parametrize("kind", ["SystemExit", "StagefleetError.__init__", "", "os"])
async def test_a_failure_names_no_other_class_than_ours(mailboxes: Mailboxes, kind: str) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    await mailboxes.handle(from_peer("first"), Failed(KEY, kind, "x", 1, "last"), bytearray())
    with pytest.raises(SessionError):
        await mailbox.answer(Tokens, 1, "it")


async def test_a_lost_first_hop_ends_the_wait(mailboxes: Mailboxes) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    await mailboxes.lost(from_peer("last"))
    await mailboxes.lost(from_peer("first"))
    with pytest.raises(PeerLostError, match="the connection to first ended") as caught:
        await mailbox.answer(Tokens, 1, "it")
    assert caught.value.peer_id == "first"


async def test_a_wait_says_what_it_waited_for(mailboxes: Mailboxes) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    with pytest.raises(NoAnswerError, match=r"waited 0\.01 s for the next token"):
        await mailbox.answer(Tokens, 0.01, "the next token")


async def test_an_answer_out_of_turn_is_refused(mailboxes: Mailboxes) -> None:
    mailbox = mailboxes.add(KEY, ROUTE)
    await mailboxes.handle(from_peer("first"), Opened(KEY, direct=True), bytearray())
    with pytest.raises(SessionError, match="'Opened' came instead of the next token"):
        await mailbox.answer(Tokens, 1, "the next token")


async def test_what_comes_for_a_closed_session_is_ignored(mailboxes: Mailboxes) -> None:
    mailboxes.add(KEY, ROUTE)
    assert len(mailboxes) == 1
    mailboxes.remove(KEY)
    assert len(mailboxes) == 0
    await mailboxes.handle(from_peer("stranger"), Tokens(KEY, 3, (7,)), bytearray())
