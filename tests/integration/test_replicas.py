"""Two real servers with the same blocks: one is killed or paused, the other goes on."""

import contextlib
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import NoAnswerError, RouteError, StagefleetError
from runtime.gateway.remote import events
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import (
    Processes,
    change_config,
    gateway,
    make_fleet,
    peer_id_of,
    prepare,
    wait_until,
)

PROMPT, NEW_TOKENS = "Hello, replica", 8
REQUEST = {"prompts": [PROMPT], "max_new_tokens": NEW_TOKENS, "ignore_eos": True}
REPLICAS = (1, 2)
LONG = 4000
"""Tokens of a generation that lasts longer than what is done meanwhile."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    return import_tiny("llama", root, max_position_embeddings=LONG + 100)[1]


@pytest.fixture
def processes(model: Path, tmp_path: Path) -> Iterator[Processes]:
    """Stage 0 with two blocks, and two servers with the three others."""
    # A record outlives its server for longer than a test takes.
    serving = {"announce_period_seconds": 10, "step_timeout_seconds": 3}
    plan = prepare(make_fleet(tmp_path, model, (2, 4), connect_timeout_seconds=2, **serving))
    for place, stage in enumerate((0, 1, 1)):
        change_config(plan, place, stage=stage, splits=[2])
    found = Processes(plan)
    try:
        for place in range(3):
            found.start(place)
        found.wait_until_ready(0, 1, 2)
        yield found
    finally:
        found.stop()


Stream = Generator[dict[str, Any], None, None]


def begin(processes: Processes, **fields: object) -> tuple[str, Stream]:
    """Begin a long generation; return the server that it has got, and what is still to come."""
    stream = events(gateway(processes.plan), REQUEST | {"max_new_tokens": LONG} | fields)
    return str(next(stream)["route"][1]["peer_id"]), stream


def both_are_seen(processes: Processes) -> bool:
    """Return whether sessions that are open at the same time come to use both replicas.

    What they measured at their start differs by chance, and sessions spread in proportion to it.
    """
    found = set()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            try:
                peer, stream = begin(processes)
            except RouteError:
                # Where this machine has too much to do, records are renewed late.
                return False
            stack.enter_context(contextlib.closing(stream))
            found.add(peer)
            if len(found) == len(REPLICAS):
                return True
    return False


def peer_ids(processes: Processes) -> dict[int, str]:
    """Return the replicas' peer ids, once stage 0 sees both."""
    wait_until(lambda: both_are_seen(processes))
    return {
        place: peer_id_of(Path(processes.plan.stages[place].identity_path)) for place in REPLICAS
    }


def answer(processes: Processes) -> tuple[str, list[list[int]]]:
    """Return which server answered the usual request, and what."""
    found = list(events(gateway(processes.plan), REQUEST))
    return found[0]["route"][1]["peer_id"], found[-1]["token_ids"]


def test_a_killed_replica_is_avoided_from_the_next_session_on(
    processes: Processes, model: Path
) -> None:
    names = peer_ids(processes)
    peer, stream = begin(processes)
    (killed,) = [place for place in REPLICAS if names[place] == peer]
    (other,) = [place for place in REPLICAS if place != killed]
    next(stream)
    processes.send(killed, signal.SIGKILL)
    with pytest.raises(StagefleetError, match="ended"):
        list(stream)
    wanted = greedy_ids(model, (PROMPT,), NEW_TOKENS)
    for _ in range(3):
        assert answer(processes) == (names[other], wanted)
    # Several at once too: its load does not send any of them back to the dead one.
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: answer(processes), range(4)))
    assert found == [(names[other], wanted)] * 4


def test_a_replica_that_is_gone_before_a_session_opens_costs_one_more_attempt(
    processes: Processes, model: Path
) -> None:
    names = peer_ids(processes)
    wanted = greedy_ids(model, (PROMPT,), NEW_TOKENS)
    first, _ = answer(processes)
    (gone,) = [place for place in REPLICAS if names[place] == first]
    processes.send(gone, signal.SIGKILL)
    processes.wait(gone)
    assert answer(processes) == (names[3 - gone], wanted)


def test_a_paused_replica_fails_one_session_and_is_avoided_then(
    processes: Processes, model: Path
) -> None:
    names = peer_ids(processes)
    peer, stream = begin(processes)
    (paused,) = [place for place in REPLICAS if names[place] == peer]
    next(stream)
    processes.send(paused, signal.SIGSTOP)
    try:
        with pytest.raises(NoAnswerError, match="waited 3 s for the next token"):
            list(stream)
        wanted = greedy_ids(model, (PROMPT,), NEW_TOKENS)
        for _ in range(2):
            assert answer(processes) == (names[3 - paused], wanted)
    finally:
        processes.send(paused, signal.SIGCONT)
