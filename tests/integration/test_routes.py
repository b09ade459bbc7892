"""Overlapping spans that routes enter and leave anywhere, against the unsplit model."""

import asyncio
import itertools
from pathlib import Path
from random import Random

import pytest

from runtime.client.generation import Client
from runtime.client.request import EndEvent, GenerationRequest, HopReport, RouteEvent
from runtime.engine.options import Sampling
from runtime.errors import ConfigError, ServerFullError
from runtime.spec.base import Span
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids, sampled_ids
from tests.support.swarm import (
    change_config,
    collect,
    is_free,
    prepare_spans,
    serving_spans,
    statuses,
)

BLOCKS, NEW_TOKENS = 12, 8
PROMPTS = ("Hello, pipeline", "a", "The quick brown fox jumps over the lazy dog, twice over.")
SAMPLING = Sampling(temperature=0.8, top_k=200, top_p=0.95, seed=7)
REQUESTS = (
    GenerationRequest(prompts=PROMPTS[:1], max_new_tokens=NEW_TOKENS, ignore_eos=True),
    GenerationRequest(prompts=PROMPTS, max_new_tokens=NEW_TOKENS, ignore_eos=True),
    GenerationRequest(
        prompts=PROMPTS,
        max_new_tokens=NEW_TOKENS,
        ignore_eos=True,
        temperature=SAMPLING.temperature,
        top_k=SAMPLING.top_k,
        top_p=SAMPLING.top_p,
        seed=SAMPLING.seed,
    ),
)


def wanted_of(model: Path) -> list[list[list[int]]]:
    """Return what the unsplit model answers to each of `REQUESTS`."""
    return [
        greedy_ids(model, PROMPTS[:1], NEW_TOKENS),
        greedy_ids(model, PROMPTS, NEW_TOKENS),
        sampled_ids(model, PROMPTS, NEW_TOKENS, SAMPLING),
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of twelve blocks."""
    return import_tiny("llama", tmp_path_factory.mktemp("model"), num_hidden_layers=BLOCKS)[1]


@pytest.fixture(scope="module")
def wanted(model: Path) -> list[list[list[int]]]:
    return wanted_of(model)


def spans(*bounds: tuple[int, int]) -> dict[int, Span]:
    """Return the spans of servers, stage 0 first."""
    return {place: Span(start=start, end=end) for place, (start, end) in enumerate(bounds)}


def random_cover(random: Random, blocks: int) -> dict[int, Span]:
    """Return spans that overlap, each by chance, and cover all blocks; stage 0's may be empty."""
    own = random.choice([0, 0, 1, blocks // 4])
    found, end = [(0, own)], own
    while end < blocks:
        start = random.randint(max(0, end - blocks // 4), end)
        end = min(blocks, end + random.randint(1, blocks // 2))
        found.append((start, end))
    start = random.randint(0, blocks - 2)
    found.append((start, random.randint(start + 1, blocks)))
    return spans(*found)


async def generate(client: Client, request: GenerationRequest) -> tuple[RouteEvent, EndEvent]:
    events, end = await collect(client, request)
    opened = events[0]
    assert isinstance(opened, RouteEvent)
    return opened, end


def assert_runs_each_block_once(
    route: tuple[HopReport, ...], serving: dict[int, Span], blocks: int
) -> None:
    ran = [block for hop in route for block in range(hop.start, hop.end)]
    assert ran == list(range(blocks))
    assert all(serving[hop.stage].covers(Span(start=hop.start, end=hop.end)) for hop in route)


async def assert_all_answers_are_right(
    client: Client, wanted: list[list[list[int]]], serving: dict[int, Span], blocks: int
) -> None:
    """Send all requests alone, then twice at once: sessions then take other ways."""
    for together in (1, 6):
        requests = [REQUESTS[index % 3] for index in range(max(3, together))]
        for first in range(0, len(requests), together):
            part = requests[first : first + together]
            answers = await asyncio.gather(*(generate(client, request) for request in part))
            for request, (opened, end) in zip(part, answers, strict=True):
                assert [list(ids) for ids in end.token_ids] == wanted[REQUESTS.index(request)]
                assert_runs_each_block_once(opened.route, serving, blocks)


@pytest.mark.parametrize("seed", range(4))
async def test_random_overlapping_covers_give_the_unsplit_models_tokens(
    seed: int, model: Path, wanted: list[list[list[int]]], tmp_path: Path
) -> None:
    serving = random_cover(Random(seed), BLOCKS)
    plan = prepare_spans(tmp_path, model, len(serving) - 1)
    async with serving_spans(plan, serving) as (client,):
        await assert_all_answers_are_right(client, wanted, serving, BLOCKS)
        assert await is_free(plan)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_covers_of_a_real_model_give_its_tokens(
    seed: int, sample_model: Path, tmp_path: Path
) -> None:
    serving = random_cover(Random(seed), 30)
    plan = prepare_spans(tmp_path, sample_model, len(serving) - 1, announce_period_seconds=5)
    # Before: it takes long, and nothing else goes on in this process meanwhile.
    wanted = wanted_of(sample_model)
    async with serving_spans(plan, serving) as (client,):
        await assert_all_answers_are_right(client, wanted, serving, 30)


@pytest.mark.parametrize("servers", [1, 3])
async def test_a_stage_0_in_balanced_mode_only_embeds(
    servers: int, model: Path, wanted: list[list[list[int]]], tmp_path: Path
) -> None:
    plan = prepare_spans(tmp_path, model, servers)
    bounds = [BLOCKS * place // servers for place in range(servers + 1)]
    serving = spans((0, 0), *itertools.pairwise(bounds))
    # Stage 0's own span comes from its configuration.
    async with serving_spans(plan, {place: serving[place] for place in (1, 2, 3)[:servers]}) as (
        client,
    ):
        await assert_all_answers_are_right(client, wanted, serving, BLOCKS)
        generating = client.generate(REQUESTS[1])
        await anext(generating)
        held = [status.kv_used_bytes for status in await statuses(plan)]
        assert held[0] == 0
        assert all(held[1:])
        await generating.aclose()
        assert await is_free(plan)


async def test_a_route_leaves_one_span_and_enters_the_next_in_the_middle(
    model: Path, wanted: list[list[list[int]]], tmp_path: Path
) -> None:
    serving = spans((0, 2), (1, 7), (5, 11), (9, 12))
    plan = prepare_spans(tmp_path, model, 3)
    async with serving_spans(plan, serving) as (client,):
        opened, end = await generate(client, REQUESTS[1])
        assert [list(ids) for ids in end.token_ids] == wanted[1]
        assert_runs_each_block_once(opened.route, serving, BLOCKS)
        # Where two spans overlap, one is left before its end or the next entered behind its start.
        assert [hop.stage for hop in opened.route] == [0, 1, 2, 3]
        assert opened.route[1].start == 2


async def test_sessions_with_different_parts_of_one_span_do_not_disturb_each_other(
    model: Path, wanted: list[list[list[int]]], tmp_path: Path
) -> None:
    """Two client sides with different first blocks, so that servers run different parts."""
    plan = prepare_spans(tmp_path, model, 3)
    change_config(plan, 1, stage=0)
    serving = spans((0, 0), (0, 3), (0, 8), (6, 12))
    async with serving_spans(plan, serving) as clients:
        assert len(clients) == 2
        answers = await asyncio.gather(
            *(generate(client, request) for client in clients * 2 for request in REQUESTS)
        )
        for number, (_, end) in enumerate(answers):
            assert [list(ids) for ids in end.token_ids] == wanted[number % 3]
        firsts = {(opened.route[1].stage, opened.route[1].start) for opened, _ in answers}
        assert firsts == {(2, 0), (2, 3)}
        assert await is_free(plan)


async def test_a_session_goes_elsewhere_if_a_server_is_full_and_fails_if_all_are(
    model: Path, tmp_path: Path
) -> None:
    """Two client sides know nothing of each other's sessions; each session fills a replica."""
    plan = prepare_spans(tmp_path, model, 3, kv_cache_mib=1)
    change_config(plan, 1, stage=0)
    filling = GenerationRequest(prompts=("x",) * 3, max_new_tokens=200, ignore_eos=True)
    async with serving_spans(plan, spans((0, 0), (0, 0), (0, 12), (0, 12))) as clients:
        held = []
        taken = set()
        for client in clients:
            events = client.generate(filling)
            opened = await anext(events)
            assert isinstance(opened, RouteEvent)
            held.append(events)
            taken.add(opened.route[1].peer_id)
        assert len(taken) == 2
        for client in clients:
            with pytest.raises(ServerFullError, match="of 1 MiB are free"):
                await anext(client.generate(filling))
        for events in held:
            await events.aclose()
        assert await is_free(plan)
        for client in clients:
            opened, _ = await generate(client, filling)
            assert len(opened.route) == 2


class Nothing:
    """A source that has no span to give."""

    async def choose(self) -> Span:
        raise ConfigError("no block needs another server")


async def test_a_server_without_a_span_says_why_and_ends(model: Path, tmp_path: Path) -> None:
    from runtime.checks.config import checked, read_config
    from runtime.checks.ports import refuse_taken_ports
    from runtime.stage.process import Server

    plan = prepare_spans(tmp_path, model, 1)
    config = read_config(Path(plan.stages[1].config_path))
    with pytest.raises(ConfigError, match="no block needs another server"):
        async with Server(checked(config), Nothing()).serving():
            pass
    refuse_taken_ports(config)
