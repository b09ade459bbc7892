"""`stagefleet demo`: the main job on this machine, from nothing to text."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from runtime.cli import model
from runtime.cli.options import DEFAULT_INVENTORY
from runtime.cli.output import messages, results
from runtime.cli.playbook_progress import run_quietly
from runtime.cli.project import ROOT
from runtime.errors import DeployError, PeerLostError, SessionError
from runtime.gateway.access import gateway_url
from runtime.gateway.remote import events, health
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import read_inventory
from runtime.spec.services import LOOPBACK

_PROMPT = "Why would someone spread a language model over several machines? Answer briefly."
_NEW_TOKENS = 80
_PIPELINE_SECONDS = 120


def demo(
    prompt: Annotated[str, typer.Option(help="What to ask the model.")] = _PROMPT,
) -> None:
    """Deploy a four-stage pipeline on this machine and let it answer.

    It takes the small model SmolLM2-135M-Instruct, runs the same playbooks that deploy a fleet of
    servers, and leaves the pipeline running. Ctrl-C before the end stops everything it started.
    """
    # An end by SIGTERM goes the same way as one by Ctrl-C, also where a shell ignores Ctrl-C for
    # what it runs in the background: no stage is left behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    inventory = ROOT / DEFAULT_INVENTORY
    fleet = read_inventory(inventory).fleet
    was_running = _answers(fleet)
    try:
        model.import_("sample", Path(fleet.model.path), dtype="float32")
        changed = run_quietly("site", inventory, [], "deploying inventories/local")
        messages.print(f"deployed inventories/local: {changed} changes", style="dim")
        with gateway_url(read_inventory(inventory)) as base:
            _wait_for_pipeline(base)
            asked = [{"role": "user", "content": prompt}]
            request = {"messages": asked, "max_new_tokens": _NEW_TOKENS}
            messages.print(f"\n[bold]{prompt}[/]\n")
            route, end = _answer(base, request)
    except KeyboardInterrupt:
        if not was_running:
            run_quietly("service", inventory, ["-e", "service_verb=stop"], "stopping again")
        raise
    _print_where(fleet, route, end)
    _print_next()


def _answers(fleet: Fleet) -> bool:
    port = fleet.hosts[fleet.stages[0].host].ports.gateway
    try:
        health(f"http://{LOOPBACK}:{port}", seconds=2)
    except PeerLostError:
        return False
    return True


def _wait_for_pipeline(base: str) -> None:
    deadline = time.monotonic() + _PIPELINE_SECONDS
    reason = "the gateway does not answer"
    with messages.status("waiting for the stages to find each other"):
        while time.monotonic() < deadline:
            try:
                found = health(base, seconds=5)
            except PeerLostError as error:
                reason = str(error)
            else:
                if found["pipeline"] == "complete":
                    return
                reason = str(found["reason"])
            time.sleep(0.5)
    raise DeployError(
        f"the pipeline was not complete within {_PIPELINE_SECONDS} s: {reason}",
        hint="./fleet service logs shows what the stages say",
    )


def _answer(base: str, request: dict[str, object]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Print the answer as it comes; return the route it took and its end."""
    route: list[dict[str, Any]] = []
    for event in events(base, request):
        if event["event"] == "route":
            route = event["route"]
        elif event["event"] == "tokens":
            sys.stdout.write(event["text"][0])
            sys.stdout.flush()
        elif event["event"] == "end":
            sys.stdout.write("\n\n")
            return route, event
    raise SessionError("the answer ended early")


def _print_where(fleet: Fleet, route: list[dict[str, Any]], end: dict[str, Any]) -> None:
    table = Table(title="What ran where", title_justify="left")
    for column in ("stage", "blocks", "host", "ports (dht, rpc)", "steps/s at start"):
        table.add_column(column)
    for hop in route:
        stage = fleet.stages[hop["stage"]]
        table.add_row(
            str(stage.stage),
            str(stage.span),
            stage.host,
            f"{stage.dht_port}, {stage.rpc_port}",
            f"{hop['throughput']:.1f}",
        )
    results.print(table)
    results.print(
        f"{len(end['token_ids'][0])} tokens at {end['decode_tokens_per_second']:.1f} tokens/s, "
        f"the first after {end['prefill_seconds']:.2f} s"
    )


def _print_next() -> None:
    results.print(
        "\nThe pipeline goes on running. Next:\n"
        "  ./fleet chat                            talk with it\n"
        '  ./fleet generate --prompt "Once upon"   let it continue a text\n'
        "  ./fleet service status                  see its four services\n"
        "  ./fleet service stop                    stop it",
        markup=False,
    )
