"""One prompt, answered on standard output: stage 0 without its gateway."""

import asyncio
import sys

from runtime.client.generation import Client
from runtime.client.request import GenerationRequest, TokensEvent
from runtime.errors import RouteError
from runtime.spec.stage import StageConfig

_LOOK_AGAIN_SECONDS = 0.5


async def print_answer(client: Client, config: StageConfig) -> None:
    """Wait until the pipeline is complete and print how the prompt goes on, as it comes.

    Raises:
        RouteError: the pipeline was not complete within the time that one step may take.
        StagefleetError: the prompt cannot be answered.
    """
    await _complete(client, config.step_timeout_seconds)
    request = GenerationRequest(
        prompts=(config.prompt or "",), max_new_tokens=config.max_new_tokens
    )
    async for event in client.generate(request):
        if isinstance(event, TokensEvent):
            sys.stdout.write(event.text[0])
            sys.stdout.flush()
    sys.stdout.write("\n")


async def _complete(client: Client, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            await client.route(now=True)
        except RouteError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return
