"""The HTTP API of stage 0: prompts in, newline-delimited JSON events out; and how the swarm is.

It listens on loopback and trusts who reaches it, so it takes only what a program on this host can
send and a web page cannot: JSON by its content type, addressed to a loopback name.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Self

import structlog
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from runtime.client.generation import Client
from runtime.client.request import ErrorEvent, Event, GenerationRequest
from runtime.errors import (
    ConfigError,
    RequestError,
    RouteError,
    ServerFullError,
    StagefleetError,
)
from runtime.spec.base import words
from runtime.spec.services import LOOPBACK
from runtime.wire.messages import Status

log = structlog.get_logger()

MAX_BODY_BYTES = 16 << 20
_STOP_SECONDS = 5
_START_SECONDS = 10
_UNAVAILABLE = (RouteError, ServerFullError)


class Gateway:
    """The HTTP server; use it as an asynchronous context."""

    def __init__(self, client: Client, status: Callable[[], Status], port: int) -> None:
        """Prepare to listen on a port of loopback."""
        self._server = _Uvicorn(
            uvicorn.Config(
                application(client, status),
                host=LOOPBACK,
                port=port,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: it does not come up, for example because its port was taken meanwhile.
        """
        self._task = asyncio.create_task(self._server.serve())
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not self._server.started:
            if self._task.done() or asyncio.get_running_loop().time() > deadline:
                raise ConfigError(f"the gateway does not listen on port {self._server.config.port}")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the open requests, for a few seconds, and stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the server's process."""
        yield


def application(client: Client, status: Callable[[], Status]) -> Starlette:
    """Return the ASGI application."""

    async def generate(request: Request) -> Response:
        try:
            events = client.generate(await _body(request))
            first = await anext(events)
        except StagefleetError as error:
            return JSONResponse(_event(error).model_dump(), status_code=_status_code(error))
        return StreamingResponse(_lines(first, events), media_type="application/x-ndjson")

    async def health(_request: Request) -> Response:
        own = status()
        answer = {"state": own.state, "sessions": own.sessions}
        try:
            route = await client.route()
        except StagefleetError as error:
            return JSONResponse(
                answer | {"pipeline": "incomplete", "reason": str(error)}, status_code=503
            )
        return JSONResponse(answer | {"pipeline": "complete", "stages": 1 + len(route)})

    async def swarm(_request: Request) -> Response:
        try:
            found = await client.swarm()
        except StagefleetError as error:
            return JSONResponse(_event(error).model_dump(), status_code=_status_code(error))
        return Response(found.model_dump_json(), media_type="application/json")

    return Starlette(
        routes=[
            Route("/generate", generate, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route("/swarm", swarm, methods=["GET"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
        ],
    )


async def _body(request: Request) -> GenerationRequest:
    """Return what is asked for.

    Raises:
        RequestError: the body is not JSON, too large, or asks for something impossible.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"the content type is '{kind}'", hint="send JSON with content-type: application/json"
        )
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise RequestError(f"the request is larger than {MAX_BODY_BYTES >> 20} MiB")
    try:
        return GenerationRequest.model_validate_json(bytes(data))
    except ValidationError as error:
        raise RequestError(str(words(error, GenerationRequest, "request"))) from error


async def _lines(first: Event, events: AsyncIterator[Event]) -> AsyncGenerator[str, None]:
    try:
        yield _line(first)
        async for event in events:
            yield _line(event)
    except StagefleetError as error:
        log.warning("generation failed", kind=type(error).__name__, reason=str(error))
        yield _line(_event(error))
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


def _line(event: Event) -> str:
    return json.dumps(event.model_dump(mode="json"), ensure_ascii=False) + "\n"


def _event(error: StagefleetError) -> ErrorEvent:
    message = str(error.args[0]) if error.args else str(error)
    return ErrorEvent(kind=type(error).__name__, message=message, hint=error.hint)


def _status_code(error: StagefleetError) -> int:
    if isinstance(error, RequestError):
        return 400
    return 503 if isinstance(error, _UNAVAILABLE) else 502
