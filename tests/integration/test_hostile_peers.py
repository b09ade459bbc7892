"""A member of the fleet that breaks the protocol: its connection is closed, the server stays up."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.client.generation import Client
from runtime.client.request import GenerationRequest
from runtime.engine.options import Sampling
from runtime.errors import PeerLostError, VersionError
from runtime.model.manifest import read_manifest
from runtime.swarm.endpoint import Endpoint
from runtime.swarm.records import ServerInfo
from runtime.wire.connection import Connection, Terms, dial
from runtime.wire.messages import (
    Ask,
    Close,
    Failed,
    Hello,
    Hop,
    Message,
    Open,
    Opened,
    Refused,
    Status,
    Step,
    Tokens,
)
from runtime.wire.tls import Tls
from tests.support.models import import_tiny
from tests.support.swarm import collect, issue, make_fleet, peer_id_of, swarm_in_process

HIDDEN = 32
"""Of the tiny models."""


class Swarm:
    """Two stages of a tiny model in a thread, and a member that may say anything to stage 1."""

    def __init__(self, root: Path) -> None:
        self.model = import_tiny("llama", root / "tiny")[1]
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._context = swarm_in_process(root / "fleet", self.model, (2,), kv_cache_mib=1)
        self.client: Client = self.run(self._context.__aenter__())
        (leg,) = self.run(self.client.route())
        self.server = leg.server
        member = root / "fleet" / "member"
        fleet = make_fleet(root / "fleet", self.model, (2,))
        issue(fleet, member, "member")
        self.terms = Terms(
            me=Hello("1.0", "test", read_manifest(self.model).digest, peer_id_of(member), 9),
            tls=Tls(member),
            private_networks=(),
            max_body_bytes=1 << 20,
            greeting_seconds=5,
            send_seconds=5,
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the swarm's loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)

    async def dial(self) -> Connection:
        address = self.server.addresses[0]
        endpoint = Endpoint(address.host, address.rpc_port)
        return await dial(endpoint, self.server.peer_id, self.terms, 5)

    async def status(self) -> Status:
        connection = await self.dial()
        await connection.send(Ask())
        message, _ = await connection.receive()
        connection.close()
        assert isinstance(message, Status)
        return message

    def stop(self) -> None:
        self.run(self._context.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    found = Swarm(tmp_path_factory.mktemp("swarm"))
    yield found
    found.stop()


def hops(server: ServerInfo, *spans: tuple[int, int]) -> tuple[Hop, ...]:
    """Return a route that begins at the server and goes on at others that do not exist."""
    names = [server.peer_id, *(f"Qm{index}" for index in range(1, len(spans)))]
    return tuple(Hop(name, *span) for name, span in zip(names, spans, strict=True))


def opening(server: ServerInfo, client: str, **fields: Any) -> Open:
    terms = Open(
        session=os.urandom(16),
        route=(Hop(server.peer_id, server.start, server.end),),
        hop=0,
        client=client,
        padding=(0,),
        max_length=20,
        sampling=Sampling(),
    )
    return msgspec.structs.replace(terms, **fields)


async def said_to(
    swarm: Swarm, *messages: Message, body: bytes = b"", opened: bool = True
) -> list[Message]:
    """Open a session, say something, and return every answer until the server is silent."""
    connection = await swarm.dial()
    answers: list[Message] = []
    with contextlib.suppress(PeerLostError, TimeoutError):
        for message in messages:
            await connection.send(message, body if isinstance(message, Step) else b"")
            if opened and isinstance(message, Open):
                answer, _ = await connection.receive()
                assert answer == Opened(message.session, direct=True)
        async with asyncio.timeout(2):
            while True:
                answers.append((await connection.receive())[0])
    connection.close()
    return answers


def test_a_well_behaved_member_gets_a_token(swarm: Swarm) -> None:
    terms = opening(swarm.server, swarm.terms.me.peer_id)
    step = Step(terms.session, 0, 3, "float32")
    (answer,) = swarm.run(said_to(swarm, terms, step, body=bytes(3 * HIDDEN * 4)))
    assert isinstance(answer, Tokens)
    assert answer.position == 3


def test_a_route_may_enter_the_span_in_the_middle(swarm: Swarm) -> None:
    client = swarm.terms.me.peer_id
    terms = opening(swarm.server, client, route=hops(swarm.server, (4, 5)))
    assert swarm.run(kv_of(swarm, terms)) * 3 == swarm.run(
        kv_of(swarm, opening(swarm.server, client))
    )
    step = Step(terms.session, 0, 3, "float32")
    (answer,) = swarm.run(said_to(swarm, terms, step, body=bytes(3 * HIDDEN * 4)))
    assert isinstance(answer, Tokens)
    assert swarm.run(swarm.status()).kv_used_bytes == 0


async def kv_of(swarm: Swarm, terms: Open) -> int:
    """Return how many bytes the server keeps for a session with these terms."""
    connection = await swarm.dial()
    await connection.send(terms)
    assert isinstance((await connection.receive())[0], Opened)
    used = (await swarm.status()).kv_used_bytes
    connection.close()
    await until_free(swarm)
    return used


async def until_free(swarm: Swarm, tries: int = 500) -> None:
    """Wait until the server holds no session."""
    for _ in range(tries):
        if (await swarm.status()).kv_used_bytes == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a session is still there")


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(3, 3), (3, 5)], "a hop of blocks [3, 3)"),
        ([(4, 3), (3, 5)], "a hop of blocks [4, 3)"),
        ([(2, 3), (4, 5)], "begins with block 4 behind one that ends at 3"),
        ([(2, 4), (3, 5)], "begins with block 3 behind one that ends at 4"),
        ([(2, 4)], "ends at block 4 of 5"),
        ([(2, 6)], "ends at block 6 of 5"),
        ([(2, 5), (5, 6)], "ends at block 6 of 5"),
        ([(2**31, 2**31)], "a hop of blocks"),
    ],
)
def test_a_route_that_does_not_run_every_block_once_closes_the_connection(
    swarm: Swarm, spans: list[tuple[int, int]], said: str
) -> None:
    route = hops(swarm.server, *spans)
    terms = opening(swarm.server, swarm.terms.me.peer_id, route=route)
    (answer,) = swarm.run(said_to(swarm, terms, opened=False))
    assert isinstance(answer, Refused)
    assert said in answer.message
    assert swarm.run(swarm.status()).sessions == 0


def test_a_route_passes_through_a_server_once(swarm: Swarm) -> None:
    route = (*hops(swarm.server, (2, 3), (3, 4)), Hop(swarm.server.peer_id, 4, 5))
    terms = opening(swarm.server, swarm.terms.me.peer_id, route=route)
    (answer,) = swarm.run(said_to(swarm, terms, opened=False))
    assert isinstance(answer, Refused)
    assert "passes through a server twice" in answer.message


@pytest.mark.parametrize(
    ("step", "size", "said"),
    [
        ({"tokens": 2}, 3 * HIDDEN * 4, "which takes"),
        ({}, 3 * HIDDEN * 4 - 1, "which takes"),
        ({}, 0, "which takes"),
        ({"dtype": "bfloat16"}, 3 * HIDDEN * 2, "this span computes in"),
        ({"position": 1}, 3 * HIDDEN * 4, "0 is next"),
        ({"tokens": 21}, 21 * HIDDEN * 4, "was opened for 20"),
    ],
)
def test_a_step_of_the_wrong_shape_closes_the_connection(
    swarm: Swarm, step: dict[str, Any], size: int, said: str
) -> None:
    terms = opening(swarm.server, swarm.terms.me.peer_id)
    wrong = msgspec.structs.replace(Step(terms.session, 0, 3, "float32"), **step)
    answers = swarm.run(said_to(swarm, terms, wrong, body=bytes(size)))
    assert [type(answer) for answer in answers] == [Refused]
    assert said in str(answers[0])
    # The session went with its connection.
    assert swarm.run(swarm.status()).sessions == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hop": 1}, "hop 1 of a route with 1"),
        ({"padding": (20,)}, "more padding than positions"),
    ],
)
def test_impossible_terms_close_the_connection(
    swarm: Swarm, fields: dict[str, Any], said: str
) -> None:
    terms = opening(swarm.server, swarm.terms.me.peer_id, **fields)
    answers = swarm.run(said_to(swarm, terms, opened=False))
    assert [type(answer) for answer in answers] == [Refused]
    assert said in str(answers[0])


def test_terms_that_this_server_cannot_keep_are_declined(swarm: Swarm) -> None:
    server, client = swarm.server, swarm.terms.me.peer_id
    cases: dict[str, dict[str, Any]] = {
        f"wants blocks [1, 5) of {server.peer_id}": {"route": hops(server, (1, 5))},
        "with blocks [2, 5)": {"route": (Hop(client, 2, 5),)},
        "a batch of 9; at most 8": {"padding": (0,) * 9},
        "at most 256 are allowed": {"max_length": 257},
    }
    for said, fields in cases.items():
        (answer,) = swarm.run(said_to(swarm, opening(server, client, **fields), opened=False))
        assert isinstance(answer, Failed)
        assert said in answer.message
        assert answer.peer_id == server.peer_id
        assert answer.kind == ("MovedError" if "route" in fields else "SessionError")


def test_a_full_server_says_so_and_has_room_again_later(swarm: Swarm) -> None:
    # 8 x 256 tokens fit into the budget once.
    terms = opening(swarm.server, swarm.terms.me.peer_id, padding=(0,) * 8, max_length=256)
    (answer,) = swarm.run(said_beside(swarm, terms))
    assert isinstance(answer, Failed)
    assert answer.kind == "ServerFullError"
    assert "of 1 MiB are free" in answer.message
    assert swarm.run(swarm.status()).kv_used_bytes == 0


async def said_beside(swarm: Swarm, terms: Open) -> list[Message]:
    """Hold a session with these terms, and return what another one with the same terms is told."""
    holder = await swarm.dial()
    await holder.send(terms)
    assert isinstance((await holder.receive())[0], Opened)
    other = msgspec.structs.replace(terms, session=os.urandom(16))
    answers = await said_to(swarm, other, opened=False)
    holder.close()
    return answers


def test_nobody_touches_anothers_session(swarm: Swarm) -> None:
    async def attack() -> tuple[list[Message], list[Message], int]:
        owner = await swarm.dial()
        terms = opening(swarm.server, swarm.terms.me.peer_id)
        await owner.send(terms)
        await owner.receive()
        step = Step(terms.session, 0, 3, "float32")
        stolen = await said_to(swarm, step, body=bytes(3 * HIDDEN * 4))
        closed = await said_to(swarm, Close(terms.session))
        doubled = await said_to(swarm, terms, opened=False)
        sessions = (await swarm.status()).sessions
        owner.close()
        return stolen + doubled, closed, sessions

    taken, closed, sessions = swarm.run(attack())
    assert all(isinstance(answer, Refused) for answer in taken + closed)
    assert len(taken) == 2
    assert sessions == 1


def test_messages_that_servers_do_not_take_close_the_connection(swarm: Swarm) -> None:
    for message in (Refused("x"), swarm.terms.me, Status("online", 0, 0, 0)):
        (answer,) = swarm.run(said_to(swarm, message))
        assert "unexpected message" in str(answer)


def test_steps_of_unknown_sessions_are_declined(swarm: Swarm) -> None:
    (answer,) = swarm.run(said_to(swarm, Step(bytes(16), 0, 1, "float32")))
    assert isinstance(answer, Failed)
    assert "knows no such session" in answer.message


@settings(max_examples=30, deadline=None)
@given(
    position=st.integers(0, 2**31),
    tokens=st.integers(1, 2**31),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    body=st.binary(max_size=2000),
    padding=st.lists(st.integers(0, 30), min_size=1, max_size=10),
    max_length=st.integers(1, 300),
    start=st.integers(0, 6),
)
def test_no_open_and_step_takes_the_server_down(
    swarm: Swarm,
    position: int,
    tokens: int,
    dtype: Any,
    body: bytes,
    padding: list[int],
    max_length: int,
    start: int,
) -> None:
    terms = opening(
        swarm.server,
        swarm.terms.me.peer_id,
        route=hops(swarm.server, (start, 5)),
        padding=tuple(padding),
        max_length=max_length,
    )

    async def attack() -> Status:
        connection = await swarm.dial()
        with contextlib.suppress(PeerLostError, TimeoutError):
            await connection.send(terms)
            await connection.send(Step(terms.session, position, tokens, dtype), body)
            async with asyncio.timeout(0.2):
                while True:
                    await connection.receive()
        connection.close()
        return await swarm.status()

    assert swarm.run(attack()).state == "online"


def test_the_pipeline_still_gives_the_same_tokens_after_all_that(swarm: Swarm) -> None:
    request = GenerationRequest(prompts=("still here",), max_new_tokens=8, ignore_eos=True)
    _, first = swarm.run(collect(swarm.client, request))
    _, again = swarm.run(collect(swarm.client, request))
    assert first.token_ids == again.token_ids


def test_a_member_that_serves_another_model_is_refused(swarm: Swarm) -> None:
    other = msgspec.structs.replace(swarm.terms.me, model_digest="f" * 64)
    terms = Terms(other, swarm.terms.tls, (), 100, 5, 5)
    address = swarm.server.addresses[0]
    endpoint = Endpoint(address.host, address.rpc_port)
    with pytest.raises(VersionError, match="serves model ffffffffffff"):
        swarm.run(dial(endpoint, swarm.server.peer_id, terms, 5))
