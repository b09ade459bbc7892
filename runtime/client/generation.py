"""Generation: from a request to a session along a route of servers, and its tokens as they come."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import structlog
import torch

from runtime.client.progress import Progress
from runtime.client.prompts import Batch, Tokenizer
from runtime.client.request import Event, GenerationRequest, HopReport, RouteEvent
from runtime.client.session import Node, Session, hops, open_session
from runtime.engine.options import Sampling
from runtime.errors import PeerLostError, RequestError
from runtime.spec.base import Span
from runtime.swarm.records import ServerInfo
from runtime.swarm.routing import route
from runtime.wire.messages import Open

log = structlog.get_logger()

_DEFAULT_NEW_TOKENS = 256
# A seed that nobody chose survives JSON readers that know only doubles.
_SEED_BITS = 53


class Client:
    """Stage 0: turns requests into sessions along the pipeline."""

    def __init__(self, node: Node, tokenizer: Tokenizer) -> None:
        """Generate with this node's own span and the servers behind it."""
        self._node = node
        self._tokenizer = tokenizer
        self._closing: set[asyncio.Task[None]] = set()

    async def route(self, *, now: bool = False) -> tuple[ServerInfo, ...]:
        """Return the servers that a session would pass through behind stage 0.

        Raises:
            RouteError: no chain of servers covers the blocks that stage 0 does not hold.
        """
        total, own = self._node.checked.manifest.total_blocks, self._node.checked.span
        if own.end == total:
            return ()
        return route(await self._node.view.servers(now=now), Span(start=own.end, end=total))

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
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
        servers, session = await self._open(request, batch, new_tokens, sampling)
        try:
            yield RouteEvent(
                route=tuple(_hop(server) for server in (self._node.record(), *servers)),
                direct=session.direct,
                prompt_tokens=batch.prompt_tokens,
            )
            progress = Progress(request, self._tokenizer, len(batch.padding), new_tokens)
            ids = batch.ids
            while not progress.is_over:
                chosen = await session.step(ids)
                yield progress.take(chosen)
                ids = torch.tensor(chosen, dtype=torch.int64).unsqueeze(1)
            yield progress.end(seed, session.trace)
        finally:
            # A request that is cancelled is cancelled at its every await; closing has to go on.
            closing = asyncio.create_task(session.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _open(
        self, request: GenerationRequest, batch: Batch, new_tokens: int, sampling: Sampling
    ) -> tuple[tuple[ServerInfo, ...], Session]:
        async def attempt(*, now: bool) -> tuple[tuple[ServerInfo, ...], Session]:
            servers = await self.route(now=now)
            terms = Open(
                session=secrets.token_bytes(16),
                route=hops(servers),
                hop=0,
                client=self._node.record().peer_id,
                padding=batch.padding,
                max_length=batch.ids.shape[1] + new_tokens,
                sampling=sampling,
                traced=request.traced,
            )
            return servers, await open_session(self._node, terms, servers)

        try:
            return await attempt(now=False)
        except PeerLostError as error:
            # The view may be older than the loss of a server, or than its replacement.
            log.warning("opening the session once more", reason=str(error))
            return await attempt(now=True)

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


def _hop(server: ServerInfo) -> HopReport:
    address = server.addresses[0]
    return HopReport(
        stage=server.stage,
        start=server.start,
        end=server.end,
        peer_id=server.peer_id,
        address=f"{address.host}:{address.rpc_port}",
        throughput=server.throughput,
    )
