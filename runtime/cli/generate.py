"""`stagefleet generate` and `stagefleet chat`: text from a running fleet."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath, Url, base_url
from runtime.cli.output import messages, print_json, results
from runtime.errors import SessionError
from runtime.gateway.remote import events

_TEMPERATURE = 0.7

MaxNewTokens = Annotated[int | None, typer.Option(help="Generate at most this many tokens.", min=1)]
Greedy = Annotated[
    bool, typer.Option("--greedy", help="Always take the likeliest token; ignores --temperature.")
]
Temperature = Annotated[
    float, typer.Option(help="Higher values make unlikely tokens likelier.", min=0, max=100)
]
TopK = Annotated[
    int, typer.Option(help="Choose among this many of the likeliest tokens; 0: all.", min=0)
]
TopP = Annotated[
    float, typer.Option(help="Choose among the likeliest that together have this probability.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.", min=0)]
Stop = Annotated[list[str] | None, typer.Option(help="End the text before this; may be repeated.")]


def generate(
    prompt: Annotated[
        list[str], typer.Option(help="What the text starts with; several make a batch.")
    ],
    inventory: InventoryPath = DEFAULT_INVENTORY,
    url: Url = None,
    max_new_tokens: MaxNewTokens = None,
    greedy: Greedy = False,
    temperature: Temperature = _TEMPERATURE,
    top_k: TopK = 0,
    top_p: TopP = 1,
    seed: Seed = None,
    stop: Stop = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Continue a prompt with a running fleet, token by token."""
    request = {
        "prompts": prompt,
        **_choices(max_new_tokens, 0 if greedy else temperature, top_k, top_p, seed, stop),
    }
    with base_url(inventory, url) as base:
        if json:
            print_json(_result(events(base, request), batch=len(prompt) > 1))
        else:
            _stream(events(base, request))


def chat(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    url: Url = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_new_tokens: MaxNewTokens = None,
    greedy: Greedy = False,
    temperature: Temperature = _TEMPERATURE,
    top_k: TopK = 0,
    top_p: TopP = 1,
    seed: Seed = None,
) -> None:
    """Talk with the model of a running fleet; end with Ctrl-D."""
    choices = _choices(max_new_tokens, 0 if greedy else temperature, top_k, top_p, seed, None)
    turns = [{"role": "system", "content": system}] if system else []
    with base_url(inventory, url) as base:
        for line in _lines():
            turns.append({"role": "user", "content": line})
            answer = _stream(events(base, {"messages": turns, **choices}))
            turns.append({"role": "assistant", "content": answer})


def _choices(
    max_new_tokens: int | None,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
    stop: list[str] | None,
) -> dict[str, object]:
    return {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or [],
    }


def _stream(found: Iterator[dict[str, Any]]) -> str:
    """Print text as it comes, and where it came from at the end; return the text."""
    for event in found:
        if event["event"] == "tokens":
            sys.stdout.write(event["text"][0])
            sys.stdout.flush()
        elif event["event"] == "end":
            sys.stdout.write("\n")
            sys.stdout.flush()
            for number, text in enumerate(event["text"][1:], start=2):
                results.print(f"--- {number}\n{text}", markup=False)
            messages.print(
                f"{sum(len(ids) for ids in event['token_ids'])} tokens, "
                f"{event['decode_tokens_per_second']:.1f} tokens/s, "
                f"first after {event['prefill_seconds']:.2f} s",
                style="dim",
            )
            return str(event["text"][0])
    raise SessionError("the answer ended early")


def _result(found: Iterator[dict[str, Any]], *, batch: bool) -> dict[str, object]:
    """Return one object about a generation; a batch has lists where one prompt has one value."""
    route: dict[str, Any] = {}
    for event in found:
        if event["event"] == "route":
            route = event
        elif event["event"] == "end":
            rows = slice(None) if batch else 0
            return {
                "token_ids": event["token_ids"][rows],
                "text": event["text"][rows],
                "finish_reason": event["finish_reasons"][rows],
                "prompt_tokens": route["prompt_tokens"][rows],
                "seed": event["seed"],
                "route": route["route"],
                "direct": route["direct"],
                "prefill_seconds": event["prefill_seconds"],
                "decode_tokens_per_second": event["decode_tokens_per_second"],
            }
    raise SessionError("the answer ended early")


def _lines() -> Iterator[str]:
    """Yield what is typed, or piped in, line by line."""
    terminal = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            return
        if line:
            yield line
