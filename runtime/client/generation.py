"""Generation: from a request to a session along a route of servers, and its tokens as they come."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator

import msgspec
import structlog
import torch

from runtime.client.attempts import Attempts
from runtime.client.progress import Progress, StepTimes
from runtime.client.prompts import Batch, Tokenizer
from runtime.client.request import Event, GenerationRequest, HopReport, RouteEvent
from runtime.client.routes import Route, Routes
from runtime.client.session import Node, Session, new_session
from runtime.client.watch import Watch
from runtime.engine.options import Sampling
from runtime.errors import (
    MovedError,
    PeerLostError,
    RequestError,
    ServerFullError,
    StagefleetError,
)
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.report import SwarmReport
from runtime.swarm.routing import Leg
from runtime.wire.messages import Hop, Open

log = structlog.get_logger()

_DEFAULT_NEW_TOKENS = 256
_TOLD = 4
# A seed that nobody chose survives JSON readers that know only doubles.
_SEED_BITS = 53


class Client:
    """Stage 0: turns requests into sessions along the pipeline."""

    def __init__(self, node: Node, tokenizer: Tokenizer) -> None:
        """Generate with this node's own span and the servers behind it."""
        self._node = node
        self._tokenizer = tokenizer
        own = node.worker.engine
        behind = Span(start=own.span.end, end=own.total_blocks)
        self._routes = Routes(
            node.view, behind, node.neighbours.latencies, lambda: node.record().coordinate
        )
        self._watch = Watch(node, self._routes)
        self._closing: set[asyncio.Task[None]] = set()

    async def servers(self) -> tuple[ServerInfo, ...]:
        """Return what the servers of the swarm say of themselves now.

        Raises:
            PeerLostError: discovery does not answer.
        """
        return await self._node.view.servers(now=True)

    async def watch(self) -> None:
        """Keep an eye on the swarm, and say what changes in it, until cancelled."""
        await self._watch.run()

    async def swarm(self) -> SwarmReport:
        """Return how the swarm is now, and what happened in it lately.

        Raises:
            PeerLostError: discovery does not answer.
        """
        return await self._watch.report()

    async def route(self, *, now: bool = False) -> tuple[Leg, ...]:
        """Return the way that a session would take behind stage 0.

        Raises:
            RouteError: no chain of servers covers the blocks that stage 0 does not hold.
        """
        return (await self._routes.choose(now=now)).legs

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Yield the route, then a token of each sequence at a time, then the whole.

        Raises:
            RequestError: the prompts do not fit the model or this server's limits.
            RouteError: the pipeline is not complete.
            SessionError: a server cannot take the session, or fails.
            PeerLostError: a server cannot be reached or goes away.
        """
        batch = self._tokenizer.batch(request)
        new_tokens = self._new_tokens(request, batch)
        seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
        sampling = Sampling(
            temperature=request.temperature, top_k=request.top_k, top_p=request.top_p, seed=seed
        )
        terms = Open(
            session=b"",
            route=(),
            hop=0,
            client=self._node.record().peer_id,
            padding=batch.padding,
            max_length=batch.ids.shape[1] + new_tokens,
            sampling=sampling,
            traced=request.traced,
        )
        chosen, session = await self._open(terms)
        try:
            yield RouteEvent(
                route=self._report(chosen),
                direct=session.direct,
                prompt_tokens=batch.prompt_tokens,
            )
            progress = Progress(request, self._tokenizer, len(batch.padding), new_tokens)
            ids = batch.ids
            times = StepTimes()
            while not progress.is_over:
                started = time.monotonic()
                picked = await session.step(ids)
                seconds = times.add(time.monotonic() - started, ids.shape)
                if seconds is not None:
                    self._routes.observe(chosen, seconds)
                yield progress.take(picked)
                ids = torch.tensor(picked, dtype=torch.int64).unsqueeze(1)
            self._routes.praise(chosen)
            yield progress.end(seed, session.trace)
        except StagefleetError as error:
            self._routes.blame(error, chosen)
            raise
        finally:
            self._end(chosen, session)

    async def _open(self, terms: Open) -> tuple[Route, Session]:
        """Return an open session; other servers are tried where some are lost, full or changed.

        Args:
            terms: of the session, still without its id and route.
        """
        block_kv_bytes = (
            len(terms.padding) * terms.max_length * self._node.worker.engine.block_kv_bytes
        )
        # After so long the directory forgets a server that is lost.
        patience = self._node.checked.config.record_seconds
        attempts = Attempts(patience)
        while True:
            chosen = await self._routes.await_route(
                patience, block_kv_bytes, attempts.peer_ids, now=attempts.count > 0
            )
            await asyncio.sleep(attempts.pause(chosen.peer_ids))
            hops = tuple(Hop(leg.server.peer_id, leg.start, leg.end) for leg in chosen.legs)
            session = new_session(
                self._node,
                msgspec.structs.replace(terms, session=secrets.token_bytes(16), route=hops),
            )
            self._routes.take(chosen)
            try:
                await session.open()
            except (PeerLostError, ServerFullError, MovedError) as error:
                self._end(chosen, session)
                self._routes.blame(error, chosen)
                attempts.add(error)
                # One that is waited for need not be told of each time.
                if attempts.count <= _TOLD:
                    log.warning("session not opened", attempt=attempts.count, reason=str(error))
            except BaseException as error:
                self._end(chosen, session)
                if isinstance(error, StagefleetError):
                    self._routes.blame(error, chosen)
                raise
            else:
                return chosen, session

    def _end(self, chosen: Route, session: Session) -> None:
        """Free a session, here at once and on its servers soon."""
        self._routes.give_back(chosen)
        session.free()
        # A request that is cancelled is cancelled at its every await; closing has to go on.
        closing = asyncio.create_task(session.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _report(self, chosen: Route) -> tuple[HopReport, ...]:
        own = self._node.record()
        legs = (Leg(own, own.start, own.end), *chosen.legs)
        return tuple(_hop(leg) for leg in legs)

    def _new_tokens(self, request: GenerationRequest, batch: Batch) -> int:
        """Return how many tokens to generate at most; the context has room for them."""
        context, most = self._node.checked.max_length, self._node.checked.config.max_batch
        if len(batch.padding) > most:
            raise RequestError(
                f"{len(batch.padding)} prompts together; at most {most} are allowed",
                hint="send fewer prompts together, or raise serving.max_batch",
            )
        longest = max(batch.prompt_tokens)
        room = context - longest
        if room < 1:
            raise RequestError(
                f"the prompt has {longest} tokens; the context is {context} tokens",
                hint="shorten the prompt",
            )
        if request.max_new_tokens is not None and request.max_new_tokens > room:
            raise RequestError(
                f"the prompt's {longest} tokens and {request.max_new_tokens} new ones are more "
                f"than the context of {context} tokens",
                hint=f"ask for at most {room} new tokens",
            )
        return request.max_new_tokens or min(_DEFAULT_NEW_TOKENS, room)


def _hop(leg: Leg) -> HopReport:
    server, address = leg.server, leg.server.addresses[0]
    return HopReport(
        stage=server.stage,
        start=leg.start,
        end=leg.end,
        peer_id=server.peer_id,
        address=f"{address.host}:{address.rpc_port}",
        throughput=server.throughput,
    )
